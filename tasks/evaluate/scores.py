"""Metrics from labels and predictions, with the uncertainty that the number of rows leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.refs import Problem
from tasks.train.scores import headline as headline  # who evaluates looks for it here
from tasks.train.scores import log_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOOTSTRAP_SAMPLES = 1000
_SAMPLES_AT_ONCE = 50
_ROWS_AT_ONCE = 10_000_000
"""Rows that are drawn at once for samples, at most: 16 bytes each."""


class ClassScores(BaseModel):
    """How one class did."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str = Field(alias="class")
    precision: float
    recall: float
    f1: float
    rows: int


def confusion_counts(labels: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Rows by true class (first axis) and predicted class: int64 `[classes, classes]`."""
    from sklearn.metrics import confusion_matrix

    return np.asarray(confusion_matrix(labels, predicted, labels=range(classes)), dtype=np.int64)


def class_scores(labels: NDArray[Any], predicted: NDArray[Any], names: tuple[str, ...]) -> list[ClassScores]:
    """Precision, recall and F1 of each class; 0 where there is nothing to divide by.

    Args:
        labels: Class indices `[n]`.
        predicted: Class indices `[n]`.
        names: Class names, in the order of the indices.
    """
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(labels, predicted, labels=range(len(names)), zero_division=0)
    return [
        ClassScores(name=name, precision=p, recall=r, f1=f, rows=n)
        for name, p, r, f, n in zip(names, *(column.tolist() for column in columns), strict=True)
    ]


def classification_metrics(labels: NDArray[np.int64], scores: NDArray[np.float32]) -> dict[str, float]:
    """Accuracy, class means of precision, recall and F1, and log loss in nats.

    The means go over the classes that occur among the labels or the predictions.

    Args:
        labels: Class indices `[n]`.
        scores: Probabilities `[n, classes]`.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    predicted = scores.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0
    )
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "log_loss": log_loss(labels, scores),
    }


def regression_metrics(labels: NDArray[np.float64], values: NDArray[np.float32]) -> dict[str, float]:
    """RMSE and MAE in the label's units, and R² (0 where the labels do not vary).

    Args:
        labels: True values `[n]`.
        values: Predicted values `[n]`.
    """
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "rmse": float(root_mean_squared_error(labels, values)),
        "mae": float(mean_absolute_error(labels, values)),
        "r2": float(r2_score(labels, values)) if np.ptp(labels) else 0.0,
    }


def headline_interval(
    problem: Problem, labels: NDArray[Any], predicted: NDArray[Any] | None, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the headline metric: Wilson's for accuracy, by bootstrap for RMSE.

    Resampling rows that are all predicted right would give an interval without width; Wilson's score
    interval (1927) knows how many rows that were.

    Args:
        problem: Decides the metric: accuracy or RMSE.
        labels: True labels `[n]`.
        predicted: Predicted labels `[n]`.
        seed: Start of the resampling.
    """
    assert predicted is not None  # only rows without a label are answered with no single thing
    if problem.is_classification:
        from scipy.stats import binomtest

        right = binomtest(int((labels == predicted).sum()), len(labels))
        interval = right.proportion_ci(0.95, method="wilson")
        return float(interval.low), float(interval.high)
    parts = np.square(predicted.astype(np.float64) - labels)
    random = np.random.default_rng(seed)
    means = _means_of_samples(parts, random)
    low, high = np.percentile(np.sqrt(means), [2.5, 97.5])
    return float(low), float(high)


def _means_of_samples(parts: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Means of bootstrap samples of values `[n]`: float64 `[BOOTSTRAP_SAMPLES]`, in bounded memory.

    Rows are drawn in the same order, however many at once.
    """
    rows = len(parts)
    if rows > _ROWS_AT_ONCE:
        sums = [
            sum(
                parts[random.integers(0, rows, min(_ROWS_AT_ONCE, rows - start))].sum()
                for start in range(0, rows, _ROWS_AT_ONCE)
            )
            for _ in range(BOOTSTRAP_SAMPLES)
        ]
        return np.array(sums) / rows
    at_once = min(_SAMPLES_AT_ONCE, _ROWS_AT_ONCE // rows)
    return np.concatenate(
        [
            parts[random.integers(0, rows, (min(at_once, BOOTSTRAP_SAMPLES - first), rows))].mean(axis=1)
            for first in range(0, BOOTSTRAP_SAMPLES, at_once)
        ]
    )
