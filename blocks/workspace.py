"""A workspace: who works on what problem."""

from __future__ import annotations

from typing import Literal

from prefect.blocks.core import Block
from pydantic import Field


class Workspace(Block):
    """The settings of a workspace, as `tasks.workspace` applied them last."""

    _block_type_name = "Workspace"
    _block_type_slug = "workspace"
    _description = "A team's place: its manager, members, problem and goal."

    name: str = Field(description="Name of the workspace.")
    description: str = Field(default="", description="What the workspace is for.")
    manager: str = Field(description="User who manages it and may stop every job in it.")
    members: list[str] = Field(default_factory=list, description="Further users who work in it.")
    problem: Literal[
        "image-classification",
        "object-detection",
        "instance-segmentation",
        "semantic-segmentation",
        "text-classification",
        "audio-classification",
        "table-classification",
        "table-regression",
    ] = Field(description="What the workspace's models do; fixed once it is made.")
    goal: str = Field(default="", description="What the project is to reach, in words.")
    training_slots: int = Field(
        default=2, ge=0, description="Devices that its trainings may use at once; trainings beyond them wait."
    )
    serving_slots: int = Field(
        default=2,
        ge=0,
        description="Worker processes that its endpoints may have at once; more of them wait.",
    )
