"""Keep a checkpoint of each epoch, and from time to time within epochs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tasks.train.loop.callbacks.callback import Callback
from tasks.train.loop.checkpoint import CheckpointFolder
from tasks.train.loop.world import World

if TYPE_CHECKING:
    from tasks.train.loop.state import TrainingState

EVERY_S = 30.0
"""Time between two checkpoints: what a killed training loses at most."""

LARGEST_SHARE = 0.05
"""Share of the time that writing within epochs may take: large states are written less often."""


class KeepCheckpoints(Callback):
    """Writes the state on rank 0."""

    def __init__(self, folder: CheckpointFolder, world: World) -> None:
        self.folder = folder
        self.world = world
        self._next = time.monotonic() + EVERY_S

    def after_epoch(self, state: TrainingState) -> None:
        """See `Callback.after_epoch`."""
        self.at_pause(state)

    def wants_to_pause(self, state: TrainingState) -> bool:
        """See `Callback.wants_to_pause`: the clock of rank 0 counts."""
        return self.world.is_root and time.monotonic() >= self._next

    def at_pause(self, state: TrainingState) -> None:
        """See `Callback.at_pause`."""
        if self.world.is_root:
            started = time.monotonic()
            self.folder.write(state)
            ended = time.monotonic()
            self._next = ended + max(EVERY_S, (ended - started) / LARGEST_SHARE)
