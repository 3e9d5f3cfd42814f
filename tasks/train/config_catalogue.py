"""Settings of looking at the catalogue."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from tasks.refs import Problem


class CatalogueConfig(BaseModel):
    """Which algorithms to show."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: Problem | None = Field(
        default=None, description="Only algorithms that can learn this; empty shows all."
    )
