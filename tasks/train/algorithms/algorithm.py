"""What an algorithm is.

An algorithm is one file in this package. It names its settings as a pydantic model, so that a form and
a search space can be made of them without importing the library behind it, and it fits a model to
arrays. Everything around that (data versions, MLflow, preprocessing) is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol, Required, TypeAlias, TypedDict, get_args

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from tasks.refs import Problem
from tasks.settings import Settings
from tasks.train.algorithms.fit import Fit, FitContext, TrainingData
from tasks.train.algorithms.suitability import Characteristics, Suitability

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
