"""Settings of looking at the catalogue."""

from __future__ import annotations

from pydantic import Field

from tasks.refs import Problem
from tasks.settings import Settings


class CatalogueConfig(Settings):
    """Which algorithms to show."""

    problem: Problem | None = Field(
        default=None, description="Only algorithms that can learn this; empty shows all."
    )
