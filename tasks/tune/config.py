"""Settings of a hyperparameter study."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.settings import Settings
from tasks.train import algorithms
from tasks.train.algorithms.algorithm import Given, Value
from tasks.train.own_tags import Tags


class SearchDimension(Settings):
    """One hyperparameter to search, and where."""

    name: str = Field(min_length=1, max_length=100, description="Hyperparameter of the algorithm.")
    kind: Literal["int", "float", "log", "choice"] = Field(
        description="Whole numbers, numbers, numbers on a logarithmic scale, or a list of values."
    )
    low: float | None = Field(default=None, description="Smallest value; not for a list.")
    high: float | None = Field(default=None, description="Largest value; not for a list.")
    step: float | None = Field(
        default=None,
        description="Distance between values; on a logarithmic scale the factor between them. "
        "Grid search needs it for numbers.",
    )
    choices: list[Value] = Field(default_factory=list, max_length=1000, description="The values of a list.")

    @model_validator(mode="after")
    def _is_a_range_or_a_list(self) -> Self:
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
        assert self.low is not None
        assert self.high is not None
        step = self.step or (1 if self.kind == "int" else None)
        if self.low == self.high:
            return 1
        if step is None:
            return math.inf
        if self.kind == "log":
            return math.floor(math.log(self.high / self.low) / math.log(step) + 1e-9) + 1
        return math.floor((self.high - self.low) / step + 1e-9) + 1


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
        description="Hyperparameters to search; empty takes those that usually matter for the algorithm.",
    )
    hyperparameters: Given = Field(
        default_factory=dict,
        description="Hyperparameters that stay fixed, by name; others that are not searched keep their "
        f"defaults. {algorithms.hyperparameter_help()}.",
    )
    searcher: Literal["random", "grid", "tpe"] = Field(
        default="tpe", description="Random points, every point of the grid, or Bayesian search (TPE)."
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
        default=3, ge=0, le=1000, description="More failed trials than this end the study."
    )
    metric: str | None = Field(
        default=None,
        max_length=100,
        description="What to optimise, such as validation_loss; empty takes the problem's headline metric.",
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
        return self


class ExtendConfig(Settings):
    """How a study that has ended goes on."""

    study: str = Field(
        pattern=r"^[0-9a-f]{32}$",
        description="MLflow run id of the study, the run that its trials are nested in.",
    )
    more_trials: int = Field(
        default=10, ge=1, le=10_000, description="Trials to run besides those there are."
    )
    more_time_s: int = Field(
        default=600, ge=5, le=30 * 24 * 3600, description="Longest time that they may take, in seconds."
    )
    search: list[SearchDimension] = Field(
        default_factory=list,
        max_length=50,
        description="A wider space of the same hyperparameters; empty keeps the one that was searched.",
    )
    goal: float | None = Field(
        default=None, description="Ends the study when the metric is at least as good; empty: no goal."
    )


class SubmitConfig(Settings):
    """Which trial of a study becomes its result."""

    study: str = Field(
        pattern=r"^[0-9a-f]{32}$",
        description="MLflow run id of the study, the run that its trials are nested in.",
    )
    trial: int | None = Field(
        default=None, ge=1, description="Number of the trial; empty takes the best so far."
    )
    stop_the_rest: bool = Field(
        default=False,
        description="End the study with what it has, if it still runs; its other trials are ended.",
    )
