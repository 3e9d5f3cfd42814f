"""Rank algorithms by how well each says that it suits the data, with the reason in words."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from tasks.train import algorithms
from tasks.train.algorithms.suitability import Characteristics


class Recommendation(BaseModel):
    """One algorithm with its place and the reason for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: str
    score: float = Field(description="Higher is tried earlier.")
    reason: str


def recommend(data: Characteristics, candidates: list[str]) -> list[Recommendation]:
    """Rank algorithms for the data, best first; of equals the order of `candidates` stays.

    Args:
        data: What the data is like.
        candidates: Algorithms that can learn the problem.
    """
    ranked = [
        Recommendation(algorithm=name, **algorithms.get(name).suitability(data).model_dump())
        for name in candidates
    ]
    return sorted(ranked, key=lambda one: -one.score)


def describe(data: Characteristics) -> str:
    """What the data is like, in one line."""
    parts = [f"{data.train_rows:,} training rows"]
    if data.problem.is_table:
        parts += [
            f"{data.columns:,} columns for the model",
            f"{data.categorical_share:.0%} of the raw columns are categories",
            f"{data.missing_share:.1%} of the values are missing"
            if data.missing_share
            else "no value is missing",
        ]
    else:
        parts.append(f"images of {data.image_side_px} px")
    if data.problem.is_classification:
        parts.append(
            f"{data.classes:,} classes, the rarest with {data.smallest_class_share:.0%} of the rows "
            "that an even division would give it"
        )
    return ", ".join(parts)
