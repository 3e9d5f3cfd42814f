"""Settings of the list of trainings and of renaming: the forms of their flows."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from tasks.settings import Settings
from tasks.train.own_tags import Tags
from tasks.trainings.status import Status

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
"""Names of groups and templates: lowercase letters, digits and inner dashes, at most 40."""

_FLOW_RUN = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
FlowRunId = Annotated[str, Field(pattern=f"^{_FLOW_RUN}$")]
TrainingId = Annotated[
    str,
    Field(
        pattern=f"^([0-9a-f]{{32}}|{_FLOW_RUN})$",
        description="The MLflow run (32 letters and digits) or the flow run (with dashes), as the list of "
        "trainings shows them.",
    ),
]


def is_flow_run(identity: str) -> bool:
    """Whether an id is a flow run's: MLflow writes its ids without dashes."""
    return re.fullmatch(_FLOW_RUN, identity) is not None


class ListConfig(Settings):
    """Which trainings to list."""

    status: tuple[Status, ...] = Field(default=(), description="Only these statuses; empty for all.")
    experiment: str = Field(
        default="", max_length=200, description="Only this MLflow experiment; empty for all."
    )
    group: str = Field(
        default="",
        max_length=40,
        description="Only groups of this name, of all users or of user; empty for all.",
    )
    dataset: str = Field(
        default="", max_length=100, description="Only this dataset: its name, or name@version."
    )
    user: str = Field(default="", max_length=80, description="Only this user's trainings; empty for all.")
    text: str = Field(
        default="",
        max_length=200,
        description="Only trainings with this text in name, algorithm, dataset or tags.",
    )
    sort: Literal["newest", "oldest", "best", "validation", "name", "duration"] = Field(
        default="newest",
        description="Order; best: highest score first, or lowest error, by the test rows or else the "
        "validation rows; validation: by these alone; duration: longest first.",
    )
    limit: int = Field(default=100, ge=1, le=1_000, description="Longest list to show.")


class RenameConfig(Settings):
    """New words for a finished or running training."""

    training: TrainingId
    name: str = Field(default="", max_length=200, description="New name; empty keeps it.")
    description: str | None = Field(
        default=None, max_length=5_000, description="What is to be known of it; empty keeps what is there."
    )
    tags: Tags = Field(
        default_factory=dict,
        description="Tags to set; an empty value takes one away. A training has up to ten of its own.",
    )
