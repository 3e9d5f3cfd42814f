"""The leaderboard of a sweep: trainings side by side, best first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.markdown import bytes_text, cell, link, number, table

if TYPE_CHECKING:
    from tasks.sweep.board import Board, BoardEntry


def leaderboard(board: Board, address: Callable[[str], str]) -> str:
    """The board as Markdown, in its order (the sweep has ranked it).

    Args:
        board: Trainings, best first.
        address: Gives the page of a run by its id.
    """
    rows: list[list[str]] = []
    for place, entry in enumerate(board.entries, start=1):
        validation = _with_interval(entry.validation, entry.validation_interval)
        rows.append(
            [
                str(place) if entry.validation is not None else "-",
                link(entry.algorithm, address(entry.run_id) if entry.run_id else ""),
                f"**{validation}**" if place == 1 and entry.validation is not None else validation,
                _with_interval(entry.test, entry.test_interval),
                "-" if entry.fit_time_s is None else f"{entry.fit_time_s:.1f} s",
                "-" if entry.latency_p50_ms is None else f"{entry.latency_p50_ms:.2f} ms",
                "-" if entry.size_bytes is None else bytes_text(entry.size_bytes),
                cell(_note(entry)),
            ]
        )
    scores = (f"validation {board.metric}", f"test {board.metric}")
    costs = ("fit time", "latency of one", "size")
    return table(["", "algorithm", *scores, *costs, "note"], rows, right=(*scores, *costs))


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return number(value)
    return f"{number(value)} ({number(interval[0])} to {number(interval[1])})"


def _note(entry: BoardEntry) -> str:
    if entry.note or not entry.hyperparameters:
        return entry.note
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in entry.hyperparameters.items()
    )
