"""What a view shows."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tasks.settings import Settings
from tasks.trainings.config import TrainingId

MOST_VIEWED = 50


class ViewConfig(Settings):
    """Which trainings to open in TensorBoard."""

    runs: tuple[TrainingId, ...] = Field(
        default=(),
        max_length=MOST_VIEWED,
        description="MLflow runs or flow runs by their ids, as the list of trainings shows them; leave empty "
        "to see an experiment.",
    )
    experiment: str = Field(
        default="",
        max_length=250,
        description=f"Name of an MLflow experiment, to see its {MOST_VIEWED} newest runs and those to come, "
        "as far as they learn from datasets that you see now.",
    )
    idle_hours: float = Field(
        default=4.0, gt=0, le=168, description="Hours without a visit after which the view closes itself."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.runs) == bool(self.experiment):
            raise ValueError("give either runs or an experiment")
        return self
