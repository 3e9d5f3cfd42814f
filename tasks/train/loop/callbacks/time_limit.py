"""End a training whose time is up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.train.loop.callbacks.callback import Callback

if TYPE_CHECKING:
    from tasks.train.loop.state import TrainingState


class TimeLimit(Callback):
    """Ends at a step, but not before the first: there is always a model."""

    reason = "time limit"

    def __init__(self, max_time_s: float) -> None:
        self.max_time_s = max_time_s

    def wants_to_end(self, state: TrainingState) -> bool:
        """See `Callback.wants_to_end`."""
        return state.steps_done > 0 and state.elapsed_s >= self.max_time_s
