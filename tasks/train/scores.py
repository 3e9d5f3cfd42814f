"""The two numbers by which a fit is followed, from predictions: loss and accuracy, or loss and RMSE.

The full evaluation of a finished model is `tasks.evaluate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.refs import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.train.algorithms.fit import Metrics


def log_loss(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    """Mean cross-entropy in nats; no probability counts as less than 1e-15.

    scikit-learn's takes 1e-7 as the least for float32, and doubts rows that sum to 1 only in float32.

    Args:
        labels: Class indices `[n]`.
        probabilities: float32 `[n, classes]`.
    """
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(of_label, 1e-15, 1.0)).mean())


def headline(problem: Problem) -> tuple[str, bool]:
    """The metric that decides about a model, and whether higher is better."""
    if problem is Problem.TABLE_CLUSTERING:
        return "silhouette", True
    if problem is Problem.TABLE_DIMENSION_REDUCTION:
        return "explained_variance", True
    return ("accuracy", True) if problem.is_classification else ("rmse", False)


def split_scores(
    split: str, problem: Problem, labels: NDArray[Any], predictions: NDArray[np.float32]
) -> Metrics:
    """Loss and headline metric of one split.

    Args:
        split: Name of the split, the beginning of the metrics' names.
        problem: What was predicted.
        labels: int64 class indices `[n]`, or float64 values `[n]`.
        predictions: Probabilities `[n, classes]`, or values `[n]`.

    Returns:
        `<split>_loss` (mean cross-entropy in nats, or mean squared error) with `<split>_accuracy` or
        `<split>_rmse`.
    """
    if problem.is_classification:
        return {
            f"{split}_loss": log_loss(labels, predictions),
            f"{split}_accuracy": float((predictions.argmax(axis=1) == labels).mean()),
        }
    loss = float(np.square(predictions.astype(np.float64) - labels).mean())
    return {f"{split}_loss": loss, f"{split}_rmse": loss**0.5}
