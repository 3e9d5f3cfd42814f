"""Tell whoever follows the training how each epoch went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.train.algorithms.fit import Report
from tasks.train.loop.callbacks.callback import Callback
from tasks.train.loop.world import World

if TYPE_CHECKING:
    from tasks.train.loop.state import TrainingState


class ReportMetrics(Callback):
    """Hands each epoch's metrics to a function, on rank 0."""

    def __init__(self, report: Report, epochs: int, world: World) -> None:
        self.report = report
        self.epochs = epochs
        self.world = world

    def after_epoch(self, state: TrainingState) -> None:
        """See `Callback.after_epoch`."""
        if self.world.is_root:
            self.report(state.epoch, self.epochs, dict(state.history[-1]))
