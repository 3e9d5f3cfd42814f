"""Keep a checkpoint of each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.train.loop.callbacks.callback import Callback
from tasks.train.loop.checkpoint import CheckpointFolder
from tasks.train.loop.world import World

if TYPE_CHECKING:
    from tasks.train.loop.loop import TrainingState


class KeepCheckpoints(Callback):
    """Writes the state after each epoch, on rank 0."""

    def __init__(self, folder: CheckpointFolder, world: World) -> None:
        self.folder = folder
        self.world = world

    def after_epoch(self, state: TrainingState) -> None:
        """See `Callback.after_epoch`."""
        if self.world.is_root:
            self.folder.write(state)
