"""The rows that a model got most wrong: those to look at first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_MISTAKES = 16


class Mistake(BaseModel):
    """One row that was predicted wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(description="The row's id.")
    true: str | float = Field(description="Its class, or its value.")
    predicted: str | float
    score: float = Field(description="Probability of the predicted class, or the size of the error.")


def worst_classified(
    ids: Sequence[str],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    scores: NDArray[np.float32],
    names: Sequence[str],
) -> list[Mistake]:
    """Rows with a wrong class, the surest first.

    Args:
        ids: n row ids.
        labels: Class indices `[n]`.
        predicted: Class indices `[n]`.
        scores: Probabilities `[n, classes]`.
        names: Class names.
    """
    wrong = np.flatnonzero(predicted != labels)
    sureness = scores[wrong, predicted[wrong]]
    return [
        Mistake(
            id=ids[row],
            true=names[labels[row]],
            predicted=names[predicted[row]],
            score=round(float(scores[row, predicted[row]]), 4),
        )
        for row in wrong[np.argsort(-sureness, kind="stable")][:MOST_MISTAKES]
    ]


def largest_errors(ids: Sequence[str], labels: NDArray[Any], predicted: NDArray[np.float64]) -> list[Mistake]:
    """Rows of a regression with the largest errors.

    Args:
        ids: n row ids.
        labels: True values `[n]`.
        predicted: Predicted values `[n]`.
    """
    errors = np.abs(predicted - labels)
    return [
        Mistake(
            id=ids[row], true=float(labels[row]), predicted=float(predicted[row]), score=float(errors[row])
        )
        for row in np.argsort(-errors, kind="stable")[:MOST_MISTAKES]
        if errors[row] > 0
    ]
