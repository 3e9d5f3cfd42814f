"""What a dataset is like, and how well an algorithm suits it.

The rules are few and rough on purpose: they decide the order in which a sweep tries algorithms, and
the sweep's measurements decide the rest.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from tasks.refs import Problem

FEW_ROWS = 1_000
MANY_ROWS = 10_000
WIDE = 100
RARE_SHARE = 0.1
MUCH_MISSING = 0.05


class Characteristics(BaseModel):
    """What a dataset version is like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: Problem
    train_rows: int
    columns: int = Field(description="Columns that a model takes; 0 for images.")
    classes: int = Field(default=0, description="0 for regression.")
    smallest_class_share: float = Field(
        default=1.0, description="Rows of the rarest class over those that an even division would give it."
    )
    image_side_px: int = Field(default=0, description="Longer side of the images; 0 for tables.")
    categorical_share: float = Field(default=0.0, description="Raw columns that are categories, 0 to 1.")
    missing_share: float = Field(default=0.0, description="Raw values that are missing, 0 to 1; a sample's.")


class Suitability(BaseModel):
    """How well an algorithm suits some data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    score: float = Field(description="About 1 (poor) to 3 (made for it); higher is tried earlier.")
    reason: str = Field(min_length=1, description="Why, in words that name the numbers.")


def suitability(score: float, *reasons: str) -> Suitability:
    """A score with those reasons that are not empty."""
    return Suitability(score=round(score, 3), reason="; ".join(filter(None, reasons)))


def filled_in(data: Characteristics) -> bool:
    """Whether so many values were missing that what stands for them matters."""
    return data.missing_share > MUCH_MISSING


def tree_reason(data: Characteristics) -> str:
    """What missing values mean to trees; empty where few are."""
    if not filled_in(data):
        return ""
    return f"{data.missing_share:.0%} of the values were missing, and trees can split off what fills them"


def linear_suitability(data: Characteristics) -> Suitability:
    """What holds for every penalised linear model."""
    worse = 0.3 * filled_in(data)
    gaps = f"{data.missing_share:.0%} of the values were missing: what fills them bends a line"
    if data.columns > data.train_rows / 10 or data.columns > WIDE:
        return suitability(
            2.8 - worse,
            f"{data.columns:,} columns for {data.train_rows:,} rows ask for a simple, penalised model",
            gaps if worse else "",
        )
    if data.train_rows < FEW_ROWS:
        return suitability(
            2.6 - worse,
            f"with {data.train_rows:,} rows a simple model often wins, in a second",
            gaps if worse else "",
        )
    return suitability(1.2 - worse, "the one to beat: fast and easy to explain", gaps if worse else "")
