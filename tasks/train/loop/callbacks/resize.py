"""End all ranks in good order, so that another number of them can go on from here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.train.loop.callbacks.callback import Callback

if TYPE_CHECKING:
    from tasks.train.loop.callbacks.checkpoints import KeepCheckpoints
    from tasks.train.loop.state import TrainingState


class Resized(Exception):
    """Every rank has ended, and the checkpoint of this step is kept."""


class Resize(Callback):
    """Keeps a checkpoint and ends, where the ranks are asked to."""

    def __init__(self, should_resize: Callable[[], bool], checkpoints: KeepCheckpoints) -> None:
        self.should_resize = should_resize
        self.checkpoints = checkpoints

    def wants_to_pause(self, state: TrainingState) -> bool:
        """See `Callback.wants_to_pause`."""
        return self.should_resize()

    def at_pause(self, state: TrainingState) -> None:
        """See `Callback.at_pause`."""
        self.checkpoints.at_pause(state)
        raise Resized
