"""End a training that someone asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.train.loop.callbacks.callback import Callback

if TYPE_CHECKING:
    from tasks.train.loop.state import TrainingState


class StopRequest(Callback):
    """Ends at a step, but not before the first: there is always a model."""

    reason = "stopped"

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self.should_stop = should_stop

    def wants_to_end(self, state: TrainingState) -> bool:
        """See `Callback.wants_to_end`."""
        return state.steps_done > 0 and self.should_stop()
