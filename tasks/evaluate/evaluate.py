"""Evaluate a bundle on raw rows: the same way in which an endpoint answers them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.errors import InvalidData
from tasks.evaluate.evaluation import Costs, Evaluation, OtherSplit
from tasks.evaluate.importance import importance
from tasks.evaluate.measures import Measured, measure
from tasks.evaluate.scores import headline_interval
from tasks.evaluate.unlabelled import measure_unlabelled
from tasks.refs import DatasetRef
from tasks.train.scores import headline

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from tasks.data.read import RawSplit
    from tasks.train.bundle import Bundle

TIMED_PREDICTIONS = 20
_TIMED_S = 0.5
"""After this, a slow model is not asked more often than `_LEAST_TIMED` times for its latency."""
_LEAST_TIMED = 3
BUDGET_S = 1.5
BUDGET_OF_FIT = 0.02
"""What another split may take, or the columns' importance: seconds, or a share of the fit's time."""
MOST_OTHER_ROWS, LEAST_OTHER_ROWS = 5000, 100

ReadSplit = Callable[[str, int], "RawSplit"]
"""Gives so many raw rows of a split, evenly spread."""


@dataclass(frozen=True)
class Predictions:
    """What the model said about each row.

    Attributes:
        ids: n row ids.
        labels: int64 class indices `[n]`, or float64 values `[n]`; None where rows have none.
        predicted: The same of the prediction, or the row's cluster; None for components.
        scores: float32 `[n, classes]` probabilities, distances or components; or `[n]` values.
    """

    ids: list[str]
    labels: NDArray[Any] | None
    predicted: NDArray[Any] | None
    scores: NDArray[np.float32]

    def frame(self) -> pd.DataFrame:
        """Columns `id`, `label`, `prediction` and `scores`, a list a row; those that there are."""
        import pandas as pd

        parts = {"label": self.labels, "prediction": self.predicted}
        columns: dict[str, Any] = {"id": self.ids} | {k: v for k, v in parts.items() if v is not None}
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
    others: Sequence[tuple[str, int]] = (),
    read_other: ReadSplit | None = None,
) -> tuple[Evaluation, Predictions]:
    """Predict raw rows and measure.

    Args:
        bundle: The model.
        raw: The split's rows as they were ingested.
        dataset: The version that the split is of.
        split: The split's name.
        classes: The version's class names, which its labels are indices into; none for regression.
        fit_time_s: What the run says about its fit.
        others: The version's other splits, with their rows, that are measured for comparison.
        read_other: Reads rows of those.

    Raises:
        InvalidData: The dataset has classes that the model does not know.
    """
    problem = bundle.problem
    budget_s = max(BUDGET_S, BUDGET_OF_FIT * (fit_time_s or 0.0))
    began = time.perf_counter()
    scores = _predict(bundle, raw, slice(None))
    row_s = (time.perf_counter() - began) / len(raw.ids)
    labels = _as_the_model_counts(np.asarray(raw.labels), classes, bundle, dataset)
    found = _measured(bundle, raw, labels, scores)
    name, higher_is_better = headline(problem)

    def worse(some: NDArray[Any], said: NDArray[np.float32]) -> float:
        if problem.is_classification:
            return float((said.argmax(axis=1) != some).mean())
        return float(np.sqrt(np.mean(np.square(said - some))))

    columns = None
    if raw.table is not None and len(raw.ids) > 1 and problem.has_label:
        columns = importance(bundle, raw.table, labels, name, worse, budget_s)
    compared = []
    for other, rows in others if read_other else ():
        affordable = int(np.clip(budget_s / max(row_s, 1e-9), LEAST_OTHER_ROWS, MOST_OTHER_ROWS))
        part = read_other(other, min(rows, affordable))  # type: ignore[misc]
        known = _as_the_model_counts(np.asarray(part.labels), classes, bundle, dataset)
        metrics = _measured(bundle, part, known, _predict(bundle, part, slice(None))).metrics
        compared.append(OtherSplit(split=other, rows=len(part.ids), of=rows, metrics=metrics))

    evaluation = Evaluation.model_validate(
        {
            "problem": problem,
            "algorithm": bundle.description.algorithm,
            "bundle_digest": bundle.digest,
            "dataset": dataset,
            "split": split,
            "rows": len(labels),
            "label": bundle.description.label,
            "classes": bundle.classes,
            "metrics": found.metrics,
            "headline": name,
            "higher_is_better": higher_is_better,
            "interval": found.interval or headline_interval(problem, labels, found.predicted),
            "confusion": [],
            "per_class": [],
            "true_values": [],
            "predicted_values": [],
            "costs": Costs(
                parameters=bundle.description.model.parameters,
                bundle_size_bytes=bundle.description.model.size_bytes,
                fit_time_s=fit_time_s,
                latency_p50_ms=latency_p50_ms(bundle, raw),
            ),
            "other_splits": compared,
            "importance": columns,
            **found.details,
        }
    )
    truth = labels if problem.has_label else None
    return evaluation, Predictions(list(raw.ids), truth, found.predicted, scores)


def latency_p50_ms(bundle: Bundle, raw: RawSplit) -> float:
    """Median time of one prediction in milliseconds, preprocessing included; the first is not counted.

    Args:
        bundle: The model.
        raw: Raw rows, asked in turn.
    """
    times_ms: list[float] = []
    began = time.perf_counter()
    for number in range(TIMED_PREDICTIONS + 1):
        if len(times_ms) > _LEAST_TIMED and time.perf_counter() - began > _TIMED_S:
            break
        row = number % len(raw.ids)
        started = time.perf_counter()
        _predict(bundle, raw, slice(row, row + 1))
        times_ms.append((time.perf_counter() - started) * 1000)
    return statistics.median(times_ms[1:])


def _measured(bundle: Bundle, raw: RawSplit, labels: NDArray[Any], scores: NDArray[np.float32]) -> Measured:
    if not bundle.problem.has_label:
        return measure_unlabelled(bundle, raw, scores)
    return measure(bundle.problem, labels, scores, raw.ids, bundle.classes)


def _predict(bundle: Bundle, raw: RawSplit, rows: slice) -> NDArray[np.float32]:
    if raw.images is not None:
        return bundle.predict_images(raw.images[rows])
    assert raw.table is not None  # a split has either images or a table
    return bundle.predict_table(raw.table.iloc[rows])


def _as_the_model_counts(
    labels: NDArray[Any], classes: Sequence[str], bundle: Bundle, dataset: DatasetRef
) -> NDArray[Any]:
    """Labels of a dataset as indices into the model's classes, which may stand in another order.

    Values, of which a model predicts one more, stay as they are.
    """
    if not bundle.problem.is_classification:
        return labels
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
