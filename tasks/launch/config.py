"""Settings of groups, drafts and copies: the forms of their flows."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from tasks.containers.reference import IMAGE_HELP
from tasks.settings import Settings
from tasks.trainings.config import NAME_PATTERN, FlowRunId, TrainingId

MOST_SETS = 200
"""Trainings that one group may have."""

CHANGES_HELP = (
    "Names are hyperparameters (learning_rate), settings of the training (algorithm, seed) or paths "
    "(dataset.name, training.hyperparameters.epochs)."
)

Changes = dict[str, Any]


class GroupConfig(Settings):
    """Many trainings from one: which settings they differ in."""

    name: str = Field(
        pattern=NAME_PATTERN,
        description="Name of the group: lowercase letters, digits and dashes. A group of one's own that is "
        "there gets what it lacks; what waits, runs or has succeeded is not started again.",
    )
    sets: tuple[Changes, ...] = Field(
        default=(),
        max_length=MOST_SETS,
        description='One training for each of these, such as {"algorithm": "mlp", "epochs": 5}. '
        + CHANGES_HELP,
    )
    grid: dict[str, list[Any]] = Field(
        default_factory=dict,
        max_length=20,
        description='One training for each combination, such as {"learning_rate": [0.1, 0.01], "seed": '
        "[0, 1]}; with sets as well, each set in each combination.",
    )
    deployment: str = Field(
        default="train/step",
        pattern=r"^[^/\s]+/[^/]+$",
        description="What is run: train/step, a retrain deployment such as retrain/any, or a template such "
        "as train-from-template/NAME.",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="Parameters of that deployment that all have in common, over those that it has itself.",
    )
    queue: str = Field(
        default="low",
        min_length=1,
        max_length=100,
        description="Work queue that they wait in: low leaves steps that people start first.",
    )
    image: str = Field(
        default="", max_length=500, description=f"{IMAGE_HELP} Empty takes that of the deployment."
    )
    draft: bool = Field(default=False, description="Only draft them: nothing runs until they are started.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.sets and not self.grid:
            raise ValueError("give sets or a grid: there is nothing to start")
        return self


class DraftConfig(Settings):
    """A training that is set up and not started."""

    name: str = Field(default="", max_length=200, description="Name of the draft; empty takes the usual one.")
    queue: str = Field(
        default="default", min_length=1, max_length=100, description="Work queue that it will wait in."
    )
    image: str = Field(
        default="", max_length=500, description=f"{IMAGE_HELP} Empty takes that of the deployment train/step."
    )


class StartConfig(Settings):
    """Which drafts to start."""

    drafts: tuple[FlowRunId, ...] = Field(
        default=(), max_length=MOST_SETS, description="Flow runs of the drafts, with dashes."
    )
    group: str = Field(
        default="", pattern=r"^([a-z0-9-]{1,40})?$", description="All drafts of one's own group as well."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.drafts and not self.group:
            raise ValueError("name drafts or a group")
        return self


class CopyConfig(Settings):
    """A training that is run again with some settings changed."""

    training: TrainingId
    changes: Changes = Field(
        default_factory=dict,
        max_length=100,
        description='What is different, such as {"learning_rate": 0.01}; null takes a setting out. '
        + CHANGES_HELP,
    )
    name: str = Field(default="", max_length=200, description="Name of the copy; empty takes a fitting one.")
    image: str = Field(default="", max_length=500, description=f"{IMAGE_HELP} Empty takes the original's.")
    draft: bool = Field(default=False, description="Only draft it: it runs when it is started.")
    replace: bool = Field(
        default=False, description="Delete the original, which must be a draft: that is how one is edited."
    )
    queue: str = Field(
        default="default", min_length=1, max_length=100, description="Work queue that it waits in."
    )
