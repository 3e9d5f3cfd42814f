"""Settings of deletions: the forms of their flows."""

from __future__ import annotations

from pydantic import Field

from tasks.settings import Settings
from tasks.trainings.config import TrainingId


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
