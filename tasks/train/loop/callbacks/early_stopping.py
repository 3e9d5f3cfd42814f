"""End a training that no longer gets better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.train.loop.callbacks.callback import Callback

if TYPE_CHECKING:
    from tasks.train.loop.state import TrainingState


class EarlyStopping(Callback):
    """Ends after some epochs without a lower watched loss."""

    reason = "early stopping"

    def __init__(self, patience_epochs: int) -> None:
        self.patience_epochs = patience_epochs

    def wants_to_end(self, state: TrainingState) -> bool:
        """See `Callback.wants_to_end`."""
        return state.epoch > 0 and state.epoch - state.best_epoch >= self.patience_epochs
