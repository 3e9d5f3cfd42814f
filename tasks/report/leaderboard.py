"""Trainings side by side, best first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.markdown import bytes_text, cell, link, number, table

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class Entry:
    """One training on the board; a failed one has no score and says why."""

    algorithm: str
    score: float | None
    fit_time_s: float | None = None
    latency_ms: float | None = None
    size_bytes: int | None = None
    run_url: str = ""
    note: str = ""


def leaderboard(entries: Sequence[Entry], *, metric: str) -> str:
    """The board as Markdown, in the order given (the sweep has ranked them).

    Args:
        entries: Trainings, best first.
        metric: Name of the score, such as `validation accuracy`.
    """
    rows: list[list[str]] = []
    for place, entry in enumerate(entries, start=1):
        rows.append(
            [
                str(place) if entry.score is not None else "-",
                link(entry.algorithm, entry.run_url),
                f"**{number(entry.score)}**" if place == 1 else number(entry.score),
                "-" if entry.fit_time_s is None else f"{entry.fit_time_s:.1f} s",
                "-" if entry.latency_ms is None else f"{entry.latency_ms:.2f} ms",
                "-" if entry.size_bytes is None else bytes_text(entry.size_bytes),
                cell(entry.note),
            ]
        )
    head = ["", "algorithm", metric, "fit time", "latency of one", "size", "note"]
    return table(head, rows, right=(metric, "fit time", "latency of one", "size"))


def entries(parent: Run, children: Sequence[Run], address: Callable[[str], str]) -> list[Entry]:
    """The board of a sweep from its MLflow runs, best first, failed ones last.

    Args:
        parent: The sweep's run.
        children: One run an algorithm.
        address: Gives the page of a run by its id.
    """
    metric, sign = parent.data.params["metric"], -1 if parent.data.params["mode"] == "max" else 1
    board = []
    for run in children:
        metrics, tags = run.data.metrics, run.data.tags
        done = run.info.status == "FINISHED"
        size = metrics.get("bundle_size_bytes")
        board.append(
            Entry(
                algorithm=tags.get("trainyard.algorithm", run.info.run_name),
                score=metrics.get(f"best_{metric}") if done else None,
                fit_time_s=metrics.get("fit_time_s"),
                latency_ms=metrics.get("latency_p50_ms"),
                size_bytes=None if size is None else int(size),
                run_url=address(run.info.run_id),
                note="" if done else tags.get("trainyard.status", run.info.status.lower()),
            )
        )
    return sorted(board, key=lambda entry: (entry.score is None, sign * (entry.score or 0.0)))
