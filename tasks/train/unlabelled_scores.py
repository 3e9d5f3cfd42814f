"""What can be measured of clusters and of principal components, where no label says what is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.train.algorithms.fit import Metrics

MOST_COMPARED = 2_000
"""Rows that silhouettes compare with each other: their number of distances grows with the square."""


def nearest(distances: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """The cluster of each row, int64 `[n]`: the one whose centre is nearest.

    Args:
        distances: To the centres, `[n, clusters]`.
    """
    return np.asarray(distances.argmin(axis=1), dtype=np.int64)


def compared_rows(rows: int, seed: int = 0) -> NDArray[np.int64]:
    """Numbers of the rows that are compared with each other, in order: all, or `MOST_COMPARED` of them."""
    if rows <= MOST_COMPARED:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, MOST_COMPARED, replace=False))


def silhouettes(
    inputs: NDArray[np.float64], clusters: NDArray[np.int64], seed: int = 0
) -> NDArray[np.float64]:
    """Of each compared row, how much nearer it is to its own cluster than to the next, from -1 to 1.

    Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis",
    1987. A row alone in its cluster has 0; so have all rows where there is one cluster only.

    Args:
        inputs: Model inputs `[n, columns]`.
        clusters: The cluster of each row `[n]`.
        seed: Chooses the rows that are compared where there are many.
    """
    chosen = compared_rows(len(inputs), seed)
    inputs, clusters = inputs[chosen], clusters[chosen]
    if not 2 <= len(np.unique(clusters)) < len(clusters):
        return np.zeros(len(clusters))
    from sklearn.metrics import silhouette_samples

    return np.asarray(silhouette_samples(inputs, clusters), dtype=np.float64)


def clustering_scores(
    split: str, inputs: NDArray[np.float64], distances: NDArray[np.floating[Any]]
) -> Metrics:
    """`<split>_loss`, the mean squared distance to the nearest centre, and `<split>_silhouette`.

    Args:
        split: The beginning of the names.
        inputs: Model inputs `[n, columns]`.
        distances: To the centres `[n, clusters]`.
    """
    loss = float(np.square(distances.min(axis=1), dtype=np.float64).mean())
    silhouette = float(silhouettes(inputs, nearest(distances)).mean())
    return {f"{split}_loss": loss, f"{split}_silhouette": silhouette}


def squares(
    inputs: NDArray[np.float64], restored: NDArray[np.float64], mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each row the squared error of what the components restore, and the squared distance to the mean.

    Args:
        inputs: Model inputs `[n, columns]`.
        restored: The same from their components.
        mean: Of the training rows `[columns]`.
    """
    return np.square(inputs - restored).sum(axis=1), np.square(inputs - mean).sum(axis=1)


def explained_variance(errors: NDArray[np.float64], spread: NDArray[np.float64]) -> float:
    """The share of the spread around the training mean that the components keep; 1 where there is none.

    Args:
        errors: Squared error of each row.
        spread: Squared distance of each row to the mean.
    """
    total = float(spread.sum())
    return 1.0 - float(errors.sum()) / total if total else 1.0


def reduction_scores(
    split: str, inputs: NDArray[np.float64], restored: NDArray[np.float64], mean: NDArray[np.float64]
) -> Metrics:
    """`<split>_loss`, the mean squared error of a restored value, and `<split>_explained_variance`.

    Args:
        split: The beginning of the names.
        inputs: Model inputs `[n, columns]`.
        restored: The same from their components.
        mean: Of the training rows `[columns]`.
    """
    errors, spread = squares(inputs, restored, mean)
    return {
        f"{split}_loss": float(errors.mean()) / inputs.shape[1],
        f"{split}_explained_variance": explained_variance(errors, spread),
    }
