"""Settings of what is done with trainings: the forms of their flows."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.data.config import NAME_PATTERN
from tasks.trainings.status import Status

GROUP_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
"""Names of groups and templates: lowercase letters, digits and inner dashes, at most 40."""

MOST_SETS = 200
"""Trainings that one group may have."""

CHANGES_HELP = (
    "Names are hyperparameters (learning_rate), settings of the training (algorithm, seed) or paths "
    "(dataset.name, training.hyperparameters.epochs)."
)

Changes = dict[str, Any]
FlowRunId = Annotated[
    str,
    Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
]
TrainingId = Annotated[
    str,
    Field(
        pattern=r"^([0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$",
        description="The MLflow run (32 letters and digits) or the flow run (with dashes), as the list of "
        "trainings shows them.",
    ),
]


class Settings(BaseModel):
    """Base of the settings: nothing unknown is taken, nothing changes after construction."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GroupConfig(Settings):
    """Many trainings from one: which settings they differ in."""

    name: str = Field(
        pattern=GROUP_PATTERN,
        description="Name of the group: lowercase letters, digits and dashes. A group that is there gets "
        "what it lacks; what waits, runs or has succeeded is not started again.",
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


class StartConfig(Settings):
    """Which drafts to start."""

    drafts: tuple[FlowRunId, ...] = Field(
        default=(), max_length=MOST_SETS, description="Flow runs of the drafts, with dashes."
    )
    group: str = Field(
        default="", pattern=r"^([a-z0-9-]{1,40})?$", description="All drafts of this group as well."
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
    draft: bool = Field(default=False, description="Only draft it: it runs when it is started.")
    replace: bool = Field(
        default=False, description="Delete the original, which must be a draft: that is how one is edited."
    )
    queue: str = Field(
        default="default", min_length=1, max_length=100, description="Work queue that it waits in."
    )


class ListConfig(Settings):
    """Which trainings to list."""

    status: tuple[Status, ...] = Field(default=(), description="Only these statuses; empty for all.")
    experiment: str = Field(
        default="", max_length=200, description="Only this MLflow experiment; empty for all."
    )
    group: str = Field(default="", max_length=40, description="Only this group; empty for all.")
    dataset: str = Field(
        default="", max_length=100, description="Only this dataset: its name, or name@version."
    )
    user: str = Field(default="", max_length=80, description="Only this user's trainings; empty for all.")
    text: str = Field(
        default="",
        max_length=200,
        description="Only trainings with this text in name, algorithm, dataset or tags.",
    )
    sort: Literal["newest", "oldest", "best", "name", "duration"] = Field(
        default="newest",
        description="Order; best: highest score first, or lowest error; duration: longest first.",
    )
    limit: int = Field(default=100, ge=1, le=1_000, description="Longest list to show.")


class RenameConfig(Settings):
    """New words for a finished or running training."""

    training: TrainingId
    name: str = Field(default="", max_length=200, description="New name; empty keeps it.")
    description: str | None = Field(
        default=None, max_length=5_000, description="What is to be known of it; empty keeps what is there."
    )
    tags: dict[str, str] = Field(
        default_factory=dict,
        description="Tags to set; an empty value takes one away. A training has up to ten of its own.",
    )

    @model_validator(mode="after")
    def _tags_are_plain(self) -> Self:
        for name, value in self.tags.items():
            if not re.fullmatch(r"[\w.\- ]{1,100}", name) or len(value) > 500:
                raise ValueError(
                    f"the tag {name[:100]!r} is not up to 100 letters, digits, dots, dashes and spaces with "
                    "a value of up to 500 characters"
                )
            if name.startswith(("mlflow.", "trainyard.")):
                raise ValueError(f"the tag {name!r} is not one of your own: mlflow. and trainyard. are taken")
        return self


class DeleteConfig(Settings):
    """Which training to delete, and how far."""

    training: TrainingId
    for_good: bool = Field(
        default=False,
        description="Delete model, files and checkpoints for good; otherwise restore-training undoes it.",
    )
    dry_run: bool = Field(default=False, description="Only list what would go, and what is in the way.")


class ExperimentConfig(Settings):
    """Which experiment to delete."""

    name: str = Field(min_length=1, max_length=200, description="Name of the MLflow experiment.")
    dry_run: bool = Field(default=False, description="Only list what would go, and what is in the way.")


class TemplateConfig(Settings):
    """A finished training that becomes a template."""

    training: TrainingId
    name: str = Field(
        pattern=GROUP_PATTERN, description="Name of the template: lowercase letters, digits and dashes."
    )
    description: str = Field(
        default="", max_length=2_000, description="What it is good for; where it came from is added."
    )
    replace: bool = Field(default=False, description="Replace a template of one's own of this name.")


class TemplateData(Settings):
    """The data that a template is run on."""

    name: str = Field(
        pattern=NAME_PATTERN,
        description="The stored dataset to train on; with a source, the name that its data gets.",
    )
    source: str = Field(
        default="",
        max_length=2_048,
        description="Empty takes the stored dataset. Otherwise new data to ingest first: a folder, archive, "
        "CSV or Parquet file, such as sample:digits.",
    )
    version: str = Field(
        default="latest-raw",
        pattern=r"^(latest-raw|\d{8}-\d{6}-[0-9a-f]{6})$",
        description="Version of the stored dataset; latest-raw for the newest as it came in.",
    )
