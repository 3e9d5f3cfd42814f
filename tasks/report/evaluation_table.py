"""The evaluation in numbers: every metric on every split, and how each class did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.markdown import bytes_text, cell, number, table

if TYPE_CHECKING:
    from tasks.evaluate.evaluation import Evaluation

SPLITS = ("train", "validation", "test")


def page(evaluation: Evaluation, scores: Mapping[str, Mapping[str, float]], mistakes: str = "") -> str:
    """The evaluation as Markdown.

    Args:
        evaluation: What was measured.
        scores: Metrics by split, where the evaluation itself has not measured the other splits.
        mistakes: The most wrong rows, as a table.
    """
    measured = {other.split: other.metrics for other in evaluation.other_splits}
    scores = {**scores, **measured, evaluation.split: evaluation.metrics}
    headline, costs = cell(evaluation.headline.replace("_", " ")), evaluation.costs
    value = number(evaluation.metrics[evaluation.headline])
    size = bytes_text(costs.bundle_size_bytes)
    parts = [
        f"# {headline} {value} on {evaluation.rows:,} {evaluation.split} rows",
        f"{cell(evaluation.algorithm)} on {cell(evaluation.dataset)}",
        metrics_table(
            scores, headline=evaluation.headline, interval=evaluation.interval, split=evaluation.split
        ),
        f"In brackets: where the {headline} lies with 95 % confidence." + _sampled(evaluation),
        f"Answering one row takes {costs.latency_p50_ms:.1f} ms; the model has {costs.parameters:,} "
        f"parameters in {size}.",
    ]
    if evaluation.per_class:
        rows = [scores_of.model_dump(by_alias=True) for scores_of in evaluation.per_class]
        parts += ["## Classes", class_table(rows)]
    if mistakes:
        parts += ["## Most wrong", mistakes]
    return "\n\n".join(filter(None, parts))


def _sampled(evaluation: Evaluation) -> str:
    """Says of which splits only a sample was measured."""
    parts = [
        f"{other.split} on {other.rows:,} of {other.of:,} rows"
        for other in evaluation.other_splits
        if other.rows < other.of
    ]
    return f" Measured on a sample: {', '.join(parts)}." if parts else ""


def metrics_table(
    metrics: Mapping[str, Mapping[str, float]],
    *,
    headline: str,
    interval: tuple[float, float] | None = None,
    split: str = "test",
) -> str:
    """One row a metric, one column a split.

    Args:
        metrics: Value by split and metric; a split may lack metrics.
        headline: The metric that decides; shown first and in bold.
        interval: 95 % interval of the headline.
        split: The split that the interval is of.
    """
    splits = [name for name in SPLITS if name in metrics] + [name for name in metrics if name not in SPLITS]
    names = list(dict.fromkeys(name for each in splits for name in metrics[each]))
    names.sort(key=lambda name: name != headline)
    rows: list[list[str]] = []
    for name in names:
        shown = [number(metrics[each].get(name)) for each in splits]
        if name == headline:
            shown = [f"**{value}**" for value in shown]
            if interval is not None and split in splits:
                shown[splits.index(split)] += f" ({number(interval[0])} to {number(interval[1])})"
        words = cell(name.replace("_", " "))
        rows.append([f"**{words}**" if name == headline else words, *shown])
    return table(["metric", *splits], rows, right=splits)


def class_table(rows: Sequence[Mapping[str, object]]) -> str:
    """How each class did: one row a class, with the columns that the evaluation gives.

    Args:
        rows: Mappings with the same keys, such as class, precision, recall, f1, rows.
    """
    if not rows:
        return ""
    header = list(rows[0])
    body = [[cell(row[name]) if isinstance(row[name], str) else number(row[name]) for name in header]  # type: ignore[arg-type]
            for row in rows]  # fmt: skip
    return table(header, body, right=header[1:])
