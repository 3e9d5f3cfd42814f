"""End a training that no longer gets better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.train.loop.callbacks.callback import Callback

if TYPE_CHECKING:
    from tasks.train.loop.loop import TrainingState


class EarlyStopping(Callback):
    """Ends after some epochs without a lower watched loss."""

    def __init__(self, patience_epochs: int) -> None:
        self.patience_epochs = patience_epochs

    def reason_to_end(self, state: TrainingState) -> str | None:
        """See `Callback.reason_to_end`."""
        waited = state.epoch - state.best_epoch
        return "early stopping" if state.epoch and waited >= self.patience_epochs else None
