"""What a fit is given and what it gives back: rows, how it is run and who hears of it, a fitted model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import numpy as np

from tasks.refs import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.train.loop.communicators.communicator import Communicator

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Metrics: TypeAlias = dict[str, float]


@dataclass(frozen=True)
class Rows:
    """Model inputs with their labels.

    Attributes:
        inputs: Images as uint8 `[n, height, width, channels]`, or table rows as float64 `[n, features]`.
        labels: int64 class indices `[n]`, or float64 values `[n]` for regression; nothing but NaN where
            the problem has no label.
    """

    inputs: NDArray[np.uint8] | NDArray[np.float64]
    labels: NDArray[np.int64] | NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class TrainingData:
    """Everything that a fit may look at. The test split is not part of it.

    Attributes:
        problem: What is to be learned.
        train: Rows to fit.
        validation: Rows to stop and choose by; None where the dataset has none.
        classes: Class names in label order; empty for regression.
        inputs: Names of the input columns; empty for images.
        read: Reads the same again, in another process; None where the rows are only here.
    """

    problem: Problem
    train: Rows
    validation: Rows | None
    classes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    read: Callable[[], TrainingData] | None = None

    @property
    def outputs(self) -> int:
        """Numbers that a model gives for one row: one a class, or one value."""
        return len(self.classes) if self.problem.is_classification else 1


Report: TypeAlias = Callable[[int, int, Metrics], None]
"""`report(epoch, epochs, metrics)`, called on rank 0 after each epoch (or boosting round), from 1.

When it is called, the checkpoint of that epoch lies in the work folder already.
"""

StepReport: TypeAlias = Callable[[int, Metrics], None]
"""`report_steps(step, metrics)`, called on rank 0 within epochs; steps count from 1 over the whole fit."""


def never() -> bool:
    """The answer of someone who never asks a fit to stop."""
    return False


def silent(epoch: int, epochs: int, metrics: Metrics) -> None:
    """The report of a fit that nobody follows."""


def silent_steps(step: int, metrics: Metrics) -> None:
    """The report of steps that nobody follows."""


class Launch(Protocol):
    """Runs a function on ranks: see `tasks.train.ranks.gang.launch`.

    Attributes:
        num_ranks: How many there are to be.
        threads: Processor threads of each; None leaves it to them.
    """

    @property
    def num_ranks(self) -> int: ...

    @property
    def threads(self) -> int | None: ...

    def __call__(
        self,
        function: Callable[..., Any],
        told: Callable[[Any], None],
        should_stop: Callable[[], bool],
        *,
        every_round: Callable[[], None] = lambda: None,
        joined: bool = True,
    ) -> Any:
        """Run it.

        Args:
            function: Called on each rank.
            told: Called with what rank 0 tells.
            should_stop: Asked now and then; True asks the ranks to end.
            every_round: Called every second or two while they run.
            joined: Whether the ranks are joined before it is called.

        Returns:
            What the function returned on rank 0.
        """
        ...


@dataclass(frozen=True)
class FitContext:
    """How one fit is run: by whom, for how long, and who hears of it.

    Attributes:
        seed: Start of every random choice.
        report: Hears the metrics of each epoch.
        report_steps: Hears the training loss within epochs, where an algorithm has steps.
        work_folder: Where checkpoints are written and found again; None keeps none.
        max_time_s: Longest fitting time, after which the best model so far is taken; None is no limit.
        should_stop: Asked after each step, and while one long call is made; True ends the fit with the
            best model so far.
        threads: Processor threads to use at most; None is a fair share of those that there are.
        gpus: GPUs to use; 0 stays on the processor, None takes one where there is one.
        start_from: Weights to start from, a safetensors file of the same network or, for a network of
            transformers, a folder with pretrained ones; None starts from random ones.
        communicator: How the ranks of the fit talk; None for a single process.
        launch: Runs a function on every rank and gives what rank 0 returns; None fits in this process.
        should_resize: Asked after each step of a rank; True ends the ranks at a checkpoint.
    """

    seed: int = 0
    report: Report = silent
    report_steps: StepReport = silent_steps
    work_folder: Path | None = None
    max_time_s: float | None = None
    should_stop: Callable[[], bool] = never
    threads: int | None = None
    gpus: int | None = None
    start_from: Path | None = None
    communicator: Communicator | None = None
    launch: Launch | None = None
    should_resize: Callable[[], bool] = never


class FittedModel(Protocol):
    """A model that predicts, and can be written as data.

    Attributes:
        format: Key of `tasks.train.models.FORMATS` that reads the file again.
        parameters: Learned numbers in the model.
    """

    format: ClassVar[str]

    @property
    def parameters(self) -> int: ...

    def predict(self, inputs: NDArray[np.uint8] | NDArray[np.float64]) -> NDArray[np.float32]:
        """Score rows.

        Args:
            inputs: As in `Rows.inputs`.

        Returns:
            Probabilities `[n, classes]`, or values `[n]` for regression; distances to the clusters'
            centres `[n, clusters]`, or `[n, components]`.
        """
        ...

    def save(self, path: Path) -> None:
        """Write the weights to a file."""
        ...

    def description(self) -> dict[str, Json]:
        """What is needed besides the file to read the model again."""
        ...


@dataclass(frozen=True)
class Fit:
    """A finished fit.

    Attributes:
        model: The model at its best epoch.
        history: Metrics of each epoch, in order.
        best_epoch: Epoch, from 1, that the model is of.
        ended: Why it ended: `finished`, `early stopping`, `iteration limit`, `time limit` or `stopped`.
        fit_time_s: Time that it took, that of killed processes before it included.
        outputs: Names of the numbers that the model gives for a row, where the fit itself found what they
            stand for: clusters or components.
    """

    model: FittedModel
    history: tuple[Metrics, ...]
    best_epoch: int
    ended: str
    fit_time_s: float
    outputs: tuple[str, ...] = ()

    @property
    def best(self) -> Metrics:
        """Metrics of the model's own epoch."""
        return self.history[self.best_epoch - 1]
