"""Settings of a sweep over algorithms."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tasks.settings import Settings
from tasks.train import algorithms as catalogue
from tasks.train.own_tags import Tags


class SweepConfig(Settings):
    """Which algorithms to try and for how long."""

    algorithms: list[str] = Field(
        default_factory=list,
        max_length=100,
        description="Algorithms to try; empty takes all that can learn the problem.",
        json_schema_extra={"items": {"type": "string", "enum": list(catalogue.names())}},
    )
    budget_s: int = Field(
        default=300, ge=10, le=30 * 24 * 3600, description="Time for all of it, in seconds; it ends by then."
    )
    trials_per_algorithm: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Trainings of the best algorithm at most: its defaults, then random points of its usual "
        "search in the time that is left. The second best has half as many, and so on. 1 is defaults alone.",
    )
    ensemble: bool = Field(
        default=True,
        description="Weigh the best trainings together, as one more training: for tables, where there is a "
        "minute or more.",
    )
    max_parallel: int = Field(
        default=2, ge=1, le=1024, description="Trainings that run at the same time, one CPU slot each."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Start of the random numbers.")
    experiment: str = Field(
        default="default",
        min_length=1,
        max_length=200,
        pattern=r"^[^/\\]+$",
        description="MLflow experiment.",
    )
    tags: Tags = Field(default_factory=dict, description="Tags of your own on the sweep's MLflow run.")

    @model_validator(mode="after")
    def _each_is_there_and_once(self) -> Self:
        for name in self.algorithms:
            catalogue.get(name)
        twice = sorted({name for name in self.algorithms if self.algorithms.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return self
