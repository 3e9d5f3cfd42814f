"""End a training whose time is up, or that someone asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.train.loop.callbacks.callback import Callback

if TYPE_CHECKING:
    from tasks.train.loop.loop import TrainingState


class Limits(Callback):
    """Ends with the best model so far; there is always one epoch, if only a short one."""

    def __init__(self, max_time_s: float | None, should_stop: Callable[[], bool]) -> None:
        self.max_time_s = max_time_s
        self.should_stop = should_stop

    def reason_to_end(self, state: TrainingState) -> str | None:
        """See `Callback.reason_to_end`."""
        if not state.epoch:
            return None
        if self.max_time_s is not None and state.elapsed_s >= self.max_time_s:
            return "time limit"
        return "stopped" if self.should_stop() else None
