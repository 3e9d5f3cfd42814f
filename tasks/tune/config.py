"""Settings of a hyperparameter study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tasks.settings import Settings
from tasks.train import algorithms
from tasks.train.algorithms.algorithm import Given, Value
from tasks.train.own_tags import Tags
from tasks.tune.katib import move_katib

MAX_FAILED = 3


class OnlyIf(Settings):
    """The values of another hyperparameter with which one is searched."""

    name: str = Field(min_length=1, max_length=100, description="Another hyperparameter that is searched.")
    values: list[Value] = Field(
        min_length=1, max_length=1000, description="This one is searched where that one has one of these."
    )


class SearchDimension(Settings):
    """One hyperparameter to search, and where."""

    name: str = Field(min_length=1, max_length=100, description="Hyperparameter of the algorithm.")
    kind: Literal["usual", "int", "float", "log", "choice"] = Field(
        default="usual",
        description="The usual range of this hyperparameter, or one of your own: whole numbers, numbers, "
        "numbers on a logarithmic scale, or a list of values.",
    )
    low: float | None = Field(default=None, description="Smallest value; not for a list.")
    high: float | None = Field(default=None, description="Largest value; not for a list.")
    step: float | None = Field(
        default=None,
        description="Distance between values; on a logarithmic scale the factor between them. "
        "Grid search needs it for numbers.",
    )
    choices: list[Value] = Field(default_factory=list, max_length=1000, description="The values of a list.")
    only_if: OnlyIf | None = Field(
        default=None, description="Search it only with some values of another; empty searches it always."
    )

    @model_validator(mode="after")
    def _is_a_range_or_a_list(self) -> Self:
        if self.kind == "usual":
            if self.choices or (self.low, self.high, self.step) != (None, None, None):
                raise ValueError(f"{self.name}: a range of your own needs a kind: int, float, log or choice")
            return self
        if self.kind == "choice":
            if not self.choices:
                raise ValueError(f"{self.name}: a list needs at least one choice")
            if len({(type(value), value) for value in self.choices}) != len(self.choices):
                raise ValueError(f"{self.name}: a choice is named twice")
            if (self.low, self.high, self.step) != (None, None, None):
                raise ValueError(f"{self.name}: a list has choices, and no low, high or step")
            return self
        if self.choices:
            raise ValueError(f"{self.name}: only the kind choice has choices")
        if self.low is None or self.high is None:
            raise ValueError(f"{self.name}: a range needs low and high")
        if self.low > self.high:
            raise ValueError(f"{self.name}: low {self.low:g} is above high {self.high:g}")
        if self.kind == "log" and self.low <= 0:
            raise ValueError(f"{self.name}: a logarithmic scale starts above 0, not at {self.low:g}")
        least = 1.0 if self.kind == "log" else 0.0
        if self.step is not None and self.step <= least:
            raise ValueError(f"{self.name}: step must be above {least:g}, not {self.step:g}")
        whole = all(value is None or value == int(value) for value in (self.low, self.high, self.step))
        if self.kind == "int" and not whole:
            raise ValueError(f"{self.name}: low, high and step of whole numbers must be whole")
        return self

    @property
    def count(self) -> float:
        """How many values there are; infinite for a continuous range."""
        if self.kind == "choice":
            return len(self.choices)
        low, high = self.ends
        step = self.step or (1 if self.kind == "int" else None)
        if low == high:
            return 1
        if step is None:
            return math.inf
        if self.kind == "log":
            return math.floor(math.log(high / low) / math.log(step) + 1e-9) + 1
        return math.floor((high - low) / step + 1e-9) + 1

    @property
    def ends(self) -> tuple[float, float]:
        """Smallest and largest value of a range."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def at(self, place: int) -> Value:
        """The value at a place, from 0, of a dimension that has finitely many."""
        if self.kind == "choice":
            return self.choices[place]
        low, high = self.ends
        if self.kind == "int":
            return int(low) + place * int(self.step or 1)
        if self.step is None:
            return low
        return min(low * self.step**place if self.kind == "log" else low + place * self.step, high)

    def place(self, value: Value) -> int | None:
        """Where a value is among finitely many; None if it is not there."""
        if self.kind == "choice":
            return next((place for place, own in enumerate(self.choices) if same(own, value)), None)
        if isinstance(value, bool | str) or not math.isfinite(value):
            return None
        low, _ = self.ends
        step = self.step or 1
        if self.kind == "log":
            place = round(math.log(value / low) / math.log(step)) if value > 0 and step > 1 else 0
        else:
            place = round((value - low) / step)
        return place if 0 <= place < self.count and same(self.at(place), value) else None

    def takes(self, value: Value) -> bool:
        """Whether it has this value."""
        if not math.isinf(self.count):
            return self.place(value) is not None
        low, high = self.ends
        return not isinstance(value, bool | str) and low <= value <= high

    def searched(self, point: dict[str, Value]) -> bool:
        """Whether it is searched with these values of those before it."""
        if self.only_if is None:
            return True
        if self.only_if.name not in point:
            return False
        return any(same(point[self.only_if.name], value) for value in self.only_if.values)


def same(one: Value, other: Value) -> bool:
    """Whether two values are the same: true is not 1, and steps of 0.1 lead to 0.3."""
    if isinstance(one, bool | str) or isinstance(other, bool | str):
        return type(one) is type(other) and one == other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-300)


def refuse_conditions(space: Sequence[SearchDimension]) -> None:
    """Refuse conditions that can never be met, or that go round in a circle.

    Raises:
        ValueError: Says which.
    """
    known = {dimension.name: dimension for dimension in space}
    before: set[str] = set()
    for dimension in space:
        before.add(dimension.name)
        if dimension.only_if is None:
            continue
        parent = dimension.only_if.name
        if parent not in known:
            raise ValueError(
                f"{dimension.name}: only_if names {parent}, which is not searched; "
                f"searched are {', '.join(known)}"
            )
        circle = _circle(dimension, known)
        if circle:
            raise ValueError(f"conditions go round in a circle: {' needs '.join(circle)}")
        if parent not in before:
            raise ValueError(f"{dimension.name}: only_if names {parent}, which must stand before it")
        if known[parent].kind == "usual":
            continue
        if math.isinf(known[parent].count):
            raise ValueError(
                f"{dimension.name}: only_if names {parent}, which can take any value of a range; "
                "give that one a step or a list of choices"
            )
        never = [value for value in dimension.only_if.values if not known[parent].takes(value)]
        if never:
            raise ValueError(f"{dimension.name}: {parent} never is {', '.join(map(repr, never))}")


def _circle(start: SearchDimension, known: dict[str, SearchDimension]) -> list[str]:
    """Names along the conditions from a dimension back to it; empty if they end."""
    path = [start.name]
    condition = start.only_if
    while condition is not None and condition.name in known and len(path) <= len(known):
        path.append(condition.name)
        if condition.name == start.name:
            return path
        condition = known[condition.name].only_if
    return []


class TuneConfig(Settings):
    """What to search, how, and when to end."""

    algorithm: str = Field(
        default="auto",
        description="Algorithm to tune; auto takes a sound one for the problem.",
        json_schema_extra={"enum": ["auto", *algorithms.names()]},
    )
    search: list[SearchDimension] = Field(
        default_factory=list,
        max_length=50,
        description="Hyperparameters to search; empty takes those that usually matter for the algorithm. "
        "A name alone is searched over its usual range.",
    )
    hyperparameters: Given = Field(
        default_factory=dict,
        description="Hyperparameters that stay fixed, by name; others that are not searched keep their "
        f"defaults. {algorithms.hyperparameter_help()}.",
    )
    searcher: Literal["random", "grid", "tpe", "evolution"] = Field(
        default="tpe",
        description="Random points, every point of the grid, Bayesian search (TPE), or evolutionary search: "
        "children of the best points so far.",
    )
    scheduler: Literal["none", "asha", "median"] = Field(
        default="asha",
        description="How weak trials are stopped early: not at all, by ASHA or by the median rule.",
    )
    grace_epochs: int = Field(
        default=2, ge=1, le=10_000, description="Epochs that every trial gets before it may be stopped early."
    )
    min_trials: int = Field(
        default=3, ge=1, le=1000, description="Median rule: trials to compare with before one is stopped."
    )
    max_trials: int = Field(default=10, ge=1, le=10_000, description="Most trials to run.")
    max_parallel: int = Field(default=2, ge=1, le=1024, description="Trials that run at the same time.")
    max_failed: int = Field(
        default=MAX_FAILED, ge=0, le=1000, description="More failed trials than this end the study."
    )
    metric: str | None = Field(
        default=None,
        max_length=100,
        description="What to optimise, such as validation_loss; empty takes the problem's headline metric.",
    )
    mode: Literal["min", "max"] | None = Field(
        default=None,
        description="Whether the metric is better the smaller or the larger it is; empty goes by the metric.",
    )
    metrics: list[str] = Field(
        default_factory=list, max_length=20, description="Further metrics to show, such as validation_loss."
    )
    goal: float | None = Field(
        default=None, description="The study ends when the metric is at least as good."
    )
    time_limit_s: int = Field(
        default=600, ge=5, le=30 * 24 * 3600, description="Longest time of the study in seconds."
    )
    seed: int = Field(
        default=0, ge=0, le=2**31 - 1, description="Start of the random numbers of searcher and trainings."
    )
    experiment: str = Field(
        default="default",
        min_length=1,
        max_length=200,
        pattern=r"^[^/\\]+$",
        description="MLflow experiment.",
    )
    tags: Tags = Field(default_factory=dict, description="Tags of your own on the study's MLflow run.")
    katib: dict[str, Any] | None = Field(
        default=None,
        description="An experiment of Katib, or its spec, pasted as JSON: parameters, objective, algorithm, "
        "counts of trials and early stopping fill the fields here. What its trialTemplate would start, is "
        "the algorithm here.",
    )

    @model_validator(mode="before")
    @classmethod
    def _is_of_this_form(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = move_katib(values, {name: field.default for name, field in cls.model_fields.items()})
        trials = values.get("max_trials")
        if values.get("max_failed") is None and isinstance(trials, int):
            values = {**values, "max_failed": max(0, min(MAX_FAILED, trials))}
        return values

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        if self.algorithm != "auto":
            algorithms.get(self.algorithm)
        names = [dimension.name for dimension in self.search]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"searched twice: {', '.join(twice)}")
        both = sorted(set(names) & set(self.hyperparameters))
        if both:
            raise ValueError(f"both fixed and searched: {', '.join(both)}")
        refuse_conditions(self.search)
        if self.max_failed > self.max_trials:
            raise ValueError(
                f"max_failed is {self.max_failed}, and only {self.max_trials} trials are to run: "
                "allow at most as many failures as trials"
            )
        shown = [*self.metrics, *([self.metric] if self.metric else [])]
        twice = sorted({name for name in shown if shown.count(name) > 1})
        if twice:
            raise ValueError(f"metrics named twice: {', '.join(twice)}")
        return self
