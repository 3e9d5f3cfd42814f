"""Evaluate a bundle on raw rows: the same way in which an endpoint answers them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import InvalidData
from tasks.evaluate.scores import (
    ClassScores,
    class_scores,
    classification_metrics,
    confusion_counts,
    headline,
    headline_interval,
    regression_metrics,
)
from tasks.refs import DatasetRef, Problem

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from tasks.data.read import RawSplit
    from tasks.train.bundle import Bundle

TIMED_PREDICTIONS = 20
MOST_POINTS = 2000
"""Points of a predicted-against-true figure; more would only hide each other."""


class Costs(BaseModel):
    """What the model costs to make, keep and ask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: int = Field(description="Learned numbers.")
    bundle_size_bytes: int
    fit_time_s: float | None = Field(description="None where the run does not tell.")
    latency_p50_ms: float = Field(description="Median time for one row, preprocessing included.")


class Evaluation(BaseModel):
    """Everything measured on one split: the content of evaluation.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    problem: Problem
    algorithm: str
    bundle_digest: str
    dataset: DatasetRef
    split: str
    rows: int
    label: str | None
    classes: tuple[str, ...]
    metrics: dict[str, float]
    headline: str
    higher_is_better: bool
    interval: tuple[float, float] = Field(description="95 % interval of the headline metric.")
    confusion: list[list[int]] = Field(description="Rows by true and predicted class; empty for regression.")
    per_class: list[ClassScores]
    true_values: list[float] = Field(description="Regression: up to 2,000 rows' labels.")
    predicted_values: list[float] = Field(description="Regression: the predictions for the same rows.")
    costs: Costs


@dataclass(frozen=True)
class Predictions:
    """What the model said about each row.

    Attributes:
        ids: n row ids.
        labels: int64 class indices `[n]`, or float64 values `[n]`.
        predicted: The same of the prediction.
        scores: float32 `[n, classes]` probabilities, or `[n]` values.
    """

    ids: list[str]
    labels: NDArray[Any]
    predicted: NDArray[Any]
    scores: NDArray[np.float32]

    def frame(self) -> pd.DataFrame:
        """Columns `id`, `label`, `prediction` and, for classification, `scores`: a list a row."""
        import pandas as pd

        columns: dict[str, Any] = {"id": self.ids, "label": self.labels, "prediction": self.predicted}
        if self.scores.ndim == 2:
            columns["scores"] = list(self.scores)
        return pd.DataFrame(columns)


def evaluate(
    bundle: Bundle,
    raw: RawSplit,
    dataset: DatasetRef,
    split: str,
    classes: Sequence[str],
    fit_time_s: float | None = None,
) -> tuple[Evaluation, Predictions]:
    """Predict raw rows and measure.

    Args:
        bundle: The model.
        raw: The split's rows as they were ingested.
        dataset: The version that the split is of.
        split: The split's name.
        classes: The version's class names, which its labels are indices into; none for regression.
        fit_time_s: What the run says about its fit.

    Raises:
        InvalidData: The dataset has classes that the model does not know.
    """
    problem = bundle.problem
    scores = _predict(bundle, raw, slice(None))
    labels = np.asarray(raw.labels)
    if problem.is_classification:
        labels = _as_the_model_counts(labels, classes, bundle, dataset)
        predicted: NDArray[Any] = scores.argmax(axis=1).astype(np.int64)
        metrics = classification_metrics(labels, scores)
        per_class = class_scores(labels, predicted, bundle.classes)
        confusion = confusion_counts(labels, predicted, len(bundle.classes)).tolist()
    else:
        predicted = scores.astype(np.float64)
        metrics = regression_metrics(labels, scores)
        per_class, confusion = [], []
    shown = [] if problem.is_classification else _spread(len(labels), MOST_POINTS)
    name, higher_is_better = headline(problem)
    evaluation = Evaluation(
        problem=problem,
        algorithm=bundle.description.algorithm,
        bundle_digest=bundle.digest,
        dataset=dataset,
        split=split,
        rows=len(labels),
        label=bundle.description.label,
        classes=bundle.classes,
        metrics=metrics,
        headline=name,
        higher_is_better=higher_is_better,
        interval=headline_interval(problem, labels, predicted),
        confusion=confusion,
        per_class=per_class,
        true_values=[float(labels[row]) for row in shown],
        predicted_values=[float(predicted[row]) for row in shown],
        costs=Costs(
            parameters=bundle.description.model.parameters,
            bundle_size_bytes=bundle.description.model.size_bytes,
            fit_time_s=fit_time_s,
            latency_p50_ms=latency_p50_ms(bundle, raw),
        ),
    )
    return evaluation, Predictions(list(raw.ids), labels, predicted, scores)


def latency_p50_ms(bundle: Bundle, raw: RawSplit) -> float:
    """Median time of one prediction in milliseconds, preprocessing included; the first is not counted.

    Args:
        bundle: The model.
        raw: Raw rows, asked in turn.
    """
    times_ms = []
    for number in range(TIMED_PREDICTIONS + 1):
        row = number % len(raw.ids)
        started = time.perf_counter()
        _predict(bundle, raw, slice(row, row + 1))
        times_ms.append((time.perf_counter() - started) * 1000)
    return statistics.median(times_ms[1:])


def _predict(bundle: Bundle, raw: RawSplit, rows: slice) -> NDArray[np.float32]:
    if raw.images is not None:
        return bundle.predict_images(raw.images[rows])
    assert raw.table is not None  # a split has either images or a table
    return bundle.predict_table(raw.table.iloc[rows])


def _as_the_model_counts(
    labels: NDArray[Any], classes: Sequence[str], bundle: Bundle, dataset: DatasetRef
) -> NDArray[np.int64]:
    """Labels of a dataset as indices into the model's classes, which may stand in another order."""
    if tuple(classes) == bundle.classes:
        return labels.astype(np.int64)
    unknown = [name for name in classes if name not in bundle.classes]
    if unknown:
        raise InvalidData(
            f"{dataset} has classes that the model does not know: {', '.join(unknown)}",
            where=f"label {bundle.description.label}",
            allowed=", ".join(bundle.classes),
            mend="evaluate on a version with the model's classes, or train on this one",
        )
    places = np.array([bundle.classes.index(name) for name in classes], dtype=np.int64)
    return np.asarray(places[labels], dtype=np.int64)


def _spread(rows: int, most: int) -> list[int]:
    """Up to `most` row numbers, evenly spread."""
    return [int(row) for row in np.unique(np.linspace(0, rows - 1, min(rows, most)).round())]
