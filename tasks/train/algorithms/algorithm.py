"""What an algorithm is, what it is given and what it gives back.

An algorithm is one file in this package. It names its settings as a pydantic model, so that a form and
a search space can be made of them without importing the library behind it, and it fits a model to
arrays. Everything around that (data versions, MLflow, preprocessing) is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    Required,
    TypeAlias,
    TypedDict,
    get_args,
)

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from tasks.refs import Problem
from tasks.settings import Settings
from tasks.train.algorithms.suitability import Characteristics, Suitability

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.train.loop.communicators.communicator import Communicator

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Metrics: TypeAlias = dict[str, float]
Value: TypeAlias = bool | int | float | str
"""What a hyperparameter can be in a form."""


def without_nulls(values: Any) -> Any:
    """Hyperparameters by name, without those that are null: an empty field of a form says nothing."""
    if not isinstance(values, dict):
        return values
    return {name: value for name, value in values.items() if value is not None}


Given: TypeAlias = Annotated[
    dict[str, Value],
    Field(max_length=100),
    BeforeValidator(without_nulls, json_schema_input_type=dict[str, Value | None]),
]
"""Hyperparameters as a form takes them: null stands for the default."""

Report: TypeAlias = Callable[[int, int, Metrics], None]
"""`report(epoch, epochs, metrics)`, called on rank 0 after each epoch (or boosting round), from 1.

When it is called, the checkpoint of that epoch lies in the work folder already.
"""


class AlgorithmSettings(Settings):
    """Base of every algorithm's settings, which may have names of other systems besides."""

    model_config = ConfigDict(populate_by_name=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_its_own_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """JSON has booleans, numbers and words apart; pydantic takes `true` for 1 and `yes` for true."""
        assert info.field_name is not None
        annotation = cls.model_fields[info.field_name].annotation
        kinds = {one for one in (annotation, *get_args(annotation)) if isinstance(one, type)}
        fault = ""
        if kinds & {int, float} and isinstance(value, bool):
            fault = "it should be a number, not true or false"
        elif kinds & {int, float} and isinstance(value, str) and kinds <= {int, float, type(None)}:
            fault = "it should be a number, not text"
        elif bool in kinds and not isinstance(value, bool):
            fault = "it should be true or false"
        if fault:
            raise PydanticCustomError("kind", "{fault}", {"fault": fault})
        return value


class SearchRange(TypedDict, total=False):
    """Where good values of a hyperparameter lie: `low` to `high`, or `choices`.

    Integers go in steps of `step`, by default 1.
    """

    kind: Required[Literal["int", "float", "log", "choice"]]
    low: float
    high: float
    step: float
    choices: list[bool | int | float | str]


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


def never() -> bool:
    """The answer of someone who never asks a fit to stop."""
    return False


def silent(epoch: int, epochs: int, metrics: Metrics) -> None:
    """The report of a fit that nobody follows."""


StepReport: TypeAlias = Callable[[int, Metrics], None]
"""`report_steps(step, metrics)`, called on rank 0 within epochs; steps count from 1 over the whole fit."""


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
            every_round: Called several times a second while they run.
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


class Algorithm(Protocol):
    """One way to learn a model.

    Attributes:
        name: Name in settings and records, such as `random_forest`.
        title: Name for people.
        summary: One sentence on what it is and when to take it.
        problems: Problems that it can learn.
        Hyperparameters: Its settings, importable without the library behind it.
        usual_search: The hyperparameters that usually matter, and where a study searches them unless
            it is told otherwise.
    """

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def problems(self) -> frozenset[Problem]: ...

    @property
    def usual_search(self) -> dict[str, SearchRange]: ...

    @property
    def Hyperparameters(self) -> type[AlgorithmSettings]: ...  # noqa: N802 - it is a class

    def suitability(self, data: Characteristics) -> Suitability:
        """How well it suits data of a problem that it can learn: a sweep's order, and its reason."""
        ...

    def refuse(self, data: TrainingData, settings: AlgorithmSettings) -> None:
        """Refuse settings and rows that do not go together, before anything is started.

        Raises:
            InvalidSettings: The settings do not go with the rows.
            InvalidData: It cannot be fitted to such rows.
        """
        ...

    def refit_settings(self, settings: AlgorithmSettings, best_epochs: Sequence[int]) -> AlgorithmSettings:
        """Settings to fit on all rows, without any to stop by.

        Args:
            settings: Those of the folds' fits.
            best_epochs: The epoch, from 1, at which each fold's fit was best.
        """
        ...

    def fit(self, data: TrainingData, settings: AlgorithmSettings, context: FitContext) -> Fit:
        """Learn a model; the same data, settings and seed give the same model on the same machine.

        Raises:
            FitStopped: The fit was stopped before it had a model.
            FitOutOfTime: Its time was up before that.
        """
        ...
