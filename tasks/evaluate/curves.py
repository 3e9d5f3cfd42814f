"""ROC and precision-recall curves of each class against the rest, with their areas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_SCORES = 2_000_000
"""Scores that curves are drawn from; of more, an evenly spread sample of the rows."""
MOST_CLASSES = 6
WORST_SHOWN = 4
"""Classes whose curves are kept where there are more than `MOST_CLASSES`: those with the lowest area."""
MOST_POINTS = 80
MICRO, MACRO = "all together (micro)", "class mean (macro)"


class ClassCurves(BaseModel):
    """One class against the rest, or an average of all classes.

    The points are thinned evenly along the curve; the areas are of all points.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    average: bool = Field(default=False, description="Whether it is of all classes.")
    rows: int = Field(description="Rows of the class.")
    roc_auc: float
    average_precision: float
    false_positive_rate: list[float]
    true_positive_rate: list[float]
    recall: list[float]
    precision: list[float] = Field(description="Empty where no such average is usual.")


def class_curves(
    labels: NDArray[np.int64], scores: NDArray[np.float32], names: Sequence[str]
) -> tuple[list[ClassCurves], dict[str, float]]:
    """Curves worth showing, and the means of the areas over the classes.

    A class that has no rows here, or all of them, has no curve.

    Args:
        labels: Class indices `[n]`.
        scores: Probabilities `[n, classes]`.
        names: Class names.

    Returns:
        The curves, averages last; and `roc_auc` and `average_precision`, each the plain mean over the
        classes, or nothing where no class has a curve.
    """
    most = max(MOST_SCORES // max(scores.shape[1], 1), 1000)
    if len(labels) > most:
        chosen = np.linspace(0, len(labels) - 1, most).round().astype(np.int64)
        labels, scores = labels[chosen], scores[chosen]
    found: list[ClassCurves] = []
    grid = np.linspace(0, 1, 101)
    heights = []
    for index, name in enumerate(names):
        of_class = labels == index
        if not of_class.any() or of_class.all():
            continue
        points = _Points(of_class, scores[:, index])
        found.append(points.curves(name))
        heights.append(np.interp(grid, points.false_positive_rate, points.true_positive_rate))
    if not found:
        return [], {}
    means = {
        "roc_auc": float(np.mean([curves.roc_auc for curves in found])),
        "average_precision": float(np.mean([curves.average_precision for curves in found])),
    }
    if len(names) == 2:
        return found, means
    micro = _Points((labels[:, None] == np.arange(scores.shape[1])).ravel(), scores.ravel())
    macro = ClassCurves(
        name=MACRO,
        average=True,
        rows=len(labels),
        roc_auc=means["roc_auc"],
        average_precision=means["average_precision"],
        false_positive_rate=_short(grid),
        true_positive_rate=_short(np.mean(heights, axis=0)),
        recall=[],
        precision=[],
    )
    if len(found) > MOST_CLASSES:
        found = sorted(found, key=lambda curves: (curves.average_precision, curves.name))[:WORST_SHOWN]
    return [*found, macro, micro.curves(MICRO, average=True)], means


class _Points:
    """All points of both curves, from the highest score to the lowest; equal scores make one point."""

    def __init__(self, positive: NDArray[np.bool_], scores: NDArray[np.float32]) -> None:
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
        hits = np.cumsum(positive[order])[ends].astype(np.float64)
        taken = ends + 1.0
        self.rows = int(hits[-1])
        self.true_positive_rate = np.append(0.0, hits / hits[-1])
        self.false_positive_rate = np.append(0.0, (taken - hits) / max(len(scores) - hits[-1], 1.0))
        self.precision = hits / taken

    def curves(self, name: str, *, average: bool = False) -> ClassCurves:
        rate, recall = self.false_positive_rate, self.true_positive_rate
        roc = _spread(rate, recall)
        steps = _spread(recall[1:], self.precision)
        return ClassCurves(
            name=name,
            average=average,
            rows=self.rows,
            roc_auc=float(np.trapezoid(recall, rate)),
            average_precision=float(np.sum(np.diff(recall) * self.precision)),
            false_positive_rate=_short(rate[roc]),
            true_positive_rate=_short(recall[roc]),
            recall=_short(recall[1:][steps]),
            precision=_short(self.precision[steps]),
        )


def _spread(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers of up to `MOST_POINTS` points, evenly along a curve, both ends among them."""
    along = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    wanted = np.linspace(0, along[-1], MOST_POINTS)
    chosen = np.unique(np.searchsorted(along, wanted).clip(0, len(x) - 1))
    return np.unique(np.concatenate([[0], chosen, [len(x) - 1]])).astype(np.int64)


def _short(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 4) for value in values]
