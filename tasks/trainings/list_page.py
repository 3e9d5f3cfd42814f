"""The list of trainings as people and programs read it: a page, and plain rows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime

from tasks.markdown import cell, link, number, table
from tasks.trainings import records
from tasks.trainings.listing import Training
from tasks.trainings.status import STATUSES

_LINE = 60
"""Longest line in a cell, in characters: the page does not break lines of a table."""


def rows(trainings: Sequence[Training]) -> list[dict[str, str]]:
    """The list as plain rows."""
    return [
        {
            "id": one.id,
            "name": one.name,
            "status": one.status,
            "algorithm": one.algorithm,
            "dataset": one.dataset,
            "metric": one.metric,
            "validation": _score(one.validation),
            "test": _score(one.test),
            "started": _moment(one.started),
            "duration": _duration(one.duration_s),
            "experiment": one.experiment,
            "user": one.user,
            "group": one.group,
            "detail": one.detail,
            "flow run": one.flow_run_page,
            "MLflow run": one.mlflow_page,
        }
        for one in trainings
    ]


def render(trainings: Sequence[Training], total: int, whole: bool = True) -> str:
    """The list as Markdown, with links.

    Args:
        trainings: What is shown.
        total: How many the settings choose, without their limit.
        whole: Whether all trainings were looked through, and not the newest alone.
    """
    counts = [(word, sum(one.status == word for one in trainings)) for word in STATUSES]
    said = ", ".join(f"{count} {word}" for word, count in counts if count) or "none"
    head = ["training", "status", "learned", "validation", "test", "when", "filed under"]
    lines = [
        [
            _lines(
                cell(one.name),
                *map(cell, textwrap.wrap(one.detail, _LINE)),
                ", ".join(
                    link(text, page)
                    for text, page in (("flow run", one.flow_run_page), ("MLflow run", one.mlflow_page))
                    if page
                ),
                f"`{one.id}`",
            ),
            f"**{one.status}**",
            _lines(cell(one.algorithm), cell(one.dataset)),
            _lines(_score(one.validation), cell(one.metric) if one.validation is not None else ""),
            _lines(_score(one.test), cell(one.metric) if one.test is not None else ""),
            _lines(_moment(one.started), _duration(one.duration_s)),
            _lines(cell(one.experiment), cell(one.user), cell(f"group {one.group}") if one.group else ""),
        ]
        for one in trainings
    ]
    shown = f"{len(trainings)} of {total} trainings" if total > len(trainings) else f"{total} trainings"
    note = (
        ""
        if whole
        else f" **Only the newest {records.MOST_RUNS:,} were looked through**: older ones may be missing, or "
        "lack their scores. Name an experiment to have its newest."
    )
    return f"{shown}: {said}.{note}\n\n" + table(head, lines, right=["validation", "test"])


def _lines(*parts: str) -> str:
    """Parts below each other in one cell."""
    return "<br>".join(part for part in parts if part)


def _score(value: float | None) -> str:
    return "" if value is None else number(value)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
