"""Whether a model is right as often as it says: reliability of the predicted class's probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 10


class Calibration(BaseModel):
    """Rows in bins of equal width by the probability of the class that was predicted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: float = Field(description="Expected calibration error: mean gap between confidence and accuracy.")
    confidence: list[float] = Field(description="Mean probability in each bin; 0 in an empty one.")
    accuracy: list[float] = Field(description="Share of rows predicted right in each bin.")
    rows: list[int] = Field(description="Rows in each bin, from 0 to 1.")


def calibration(labels: NDArray[np.int64], scores: NDArray[np.float32]) -> Calibration:
    """Compare confidence with accuracy, as Guo et al. (2017), "On Calibration of Modern Neural Networks".

    Args:
        labels: Class indices `[n]`.
        scores: Probabilities `[n, classes]`.
    """
    confidence = scores.max(axis=1).astype(np.float64)
    right = scores.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(bins, minlength=BINS)
    divisor = np.maximum(rows, 1)
    means = np.bincount(bins, weights=confidence, minlength=BINS) / divisor
    accuracy = np.bincount(bins, weights=right, minlength=BINS) / divisor
    return Calibration(
        error=float(np.sum(rows * np.abs(means - accuracy)) / max(len(labels), 1)),
        confidence=[round(float(value), 4) for value in means],
        accuracy=[round(float(value), 4) for value in accuracy],
        rows=rows.tolist(),
    )
