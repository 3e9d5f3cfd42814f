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
