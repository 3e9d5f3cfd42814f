"""Settings of a workspace and of the list of jobs: the forms of their flows."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tasks.refs import Problem
from tasks.settings import Settings

NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
"""Lowercase letters, digits and inner dashes: fit for a queue, an experiment, a folder and a URL."""


class WorkspaceConfig(Settings):
    """One workspace."""

    name: str = Field(
        pattern=NAME, description="Name: lowercase letters, digits and dashes, at most 40 characters."
    )
    description: str = Field(default="", max_length=500, description="What the workspace is for.")
    manager: str = Field(
        min_length=1,
        max_length=80,
        description="User who manages the workspace and may stop every job in it.",
    )
    members: list[str] = Field(
        default_factory=list, max_length=500, description="Further users who work in it."
    )
    problem: Problem = Field(
        default=Problem.IMAGE_CLASSIFICATION,
        description="What the models of the workspace do; fixed once it is made.",
    )
    goal: str = Field(default="", max_length=500, description="What the project is to reach, in words.")
    training_slots: int = Field(
        default=2,
        ge=0,
        le=100_000,
        description="Devices that its trainings may use at once, one a rank or parallel trial: GPUs, or "
        "processor slots on hosts without. Trainings beyond them wait.",
    )
    serving_slots: int = Field(
        default=2,
        ge=0,
        le=100_000,
        description="Worker processes that its endpoints may have at once. Runs that need more wait until an "
        "endpoint is switched off.",
    )

    @model_validator(mode="after")
    def _members_are_named_once(self) -> Self:
        if len(set(self.members)) != len(self.members):
            raise ValueError("a member is named twice")
        return self


class JobsConfig(Settings):
    """Which jobs to list."""

    workspace: str | None = Field(default=None, description="Only this workspace's jobs; empty for all.")
    user: str | None = Field(default=None, description="Only this user's jobs; empty for everyone's.")
    limit: int = Field(default=200, ge=1, le=1000, description="Longest list to show.")
