"""What is measured for each kind of problem: one function a kind, chosen by `measure`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.evaluate.calibration import calibration
from tasks.evaluate.curves import class_curves
from tasks.evaluate.mistakes import largest_errors, worst_classified
from tasks.evaluate.scores import (
    class_scores,
    classification_metrics,
    confusion_counts,
    regression_metrics,
)
from tasks.refs import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_POINTS = 2000
"""Points of a predicted-against-true figure; more would only hide each other."""


@dataclass(frozen=True)
class Measured:
    """What was found.

    Attributes:
        predicted: The prediction for each row, as the labels are: int64 or float64 `[n]`; None where a
            row's answer is no single thing.
        metrics: Each metric's value.
        details: The fields of `Evaluation` that this kind of problem has.
        interval: 95 % interval of the headline metric, where labels have no part in it.
    """

    predicted: NDArray[Any] | None
    metrics: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)
    interval: tuple[float, float] | None = None


def measure(
    problem: Problem,
    labels: NDArray[Any],
    scores: NDArray[np.float32],
    ids: Sequence[str],
    classes: Sequence[str],
) -> Measured:
    """Measure predictions.

    Args:
        problem: What was predicted.
        labels: int64 class indices `[n]`, or float64 values `[n]`.
        scores: Probabilities `[n, classes]`, or values `[n]`.
        ids: n row ids.
        classes: Class names; none for regression.
    """
    if problem.is_classification:
        return _classification(labels, scores, ids, classes)
    return _regression(labels, scores, ids)


def _classification(
    labels: NDArray[np.int64], scores: NDArray[np.float32], ids: Sequence[str], classes: Sequence[str]
) -> Measured:
    predicted = scores.argmax(axis=1).astype(np.int64)
    curves, areas = class_curves(labels, scores, classes)
    reliability = calibration(labels, scores)
    return Measured(
        predicted,
        {
            **classification_metrics(labels, scores),
            **areas,
            "calibration_error": reliability.error,
        },
        {
            "per_class": class_scores(labels, predicted, tuple(classes)),
            "confusion": confusion_counts(labels, predicted, len(classes)).tolist(),
            "curves": curves,
            "calibration": reliability,
            "mistakes": worst_classified(ids, labels, predicted, scores, classes),
        },
    )


def _regression(labels: NDArray[np.float64], values: NDArray[np.float32], ids: Sequence[str]) -> Measured:
    predicted = values.astype(np.float64)
    shown = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), MOST_POINTS)).round()).astype(int)
    return Measured(
        predicted,
        regression_metrics(labels, values),
        {
            "true_values": labels[shown].astype(float).tolist(),
            "predicted_values": predicted[shown].tolist(),
            "mistakes": largest_errors(ids, labels, predicted),
        },
    )
