"""Tell whoever follows the training how it goes within epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tasks.train.algorithms.fit import StepReport
from tasks.train.loop.callbacks.callback import Callback
from tasks.train.loop.communicators.communicator import Communicator
from tasks.train.loop.objective import Objective

if TYPE_CHECKING:
    from tasks.train.loop.state import TrainingState


class ReportSteps(Callback):
    """Hands the training loss and score since the last report to a function, on rank 0.

    Names start with `step_`, since epochs report the same things under the plain names. A report does
    not reach back over the start of an epoch, nor over a resumption.
    """

    def __init__(
        self, report: StepReport, every: int, objective: Objective, communicator: Communicator
    ) -> None:
        self.report = report
        self.every = every
        self.objective = objective
        self.communicator = communicator
        self._reported = torch.zeros(3, dtype=torch.float64)
        self._epoch = -1

    def after_step(self, state: TrainingState) -> None:
        """See `Callback.after_step`."""
        if self._epoch != state.epoch:
            self._epoch, self._reported = state.epoch, torch.zeros_like(state.sums)
        if state.steps_done % self.every:
            return
        since = state.sums - self._reported
        self._reported = state.sums.clone()
        self.communicator.average_(since)
        loss, score, rows = since.tolist()
        if self.communicator.world.is_root:
            metrics = self.objective.metrics("step_train", loss / rows, score / rows)
            rate = float(state.optimiser.param_groups[0]["lr"])
            self.report(state.steps_done, {**metrics, "step_learning_rate": rate})
