"""The trials of a study as a page in Markdown, the best first."""

from __future__ import annotations

from tasks.markdown import cell, link, number, table
from tasks.tune.figures.importance import Importance
from tasks.tune.figures.scales import short
from tasks.tune.view import RUNNING, Row, StudyView

MOST_ROWS = 300
MOST_COLUMNS = 8
"""Hyperparameters with a column of their own; the others share one."""


def trial_table(view: StudyView, found: Importance) -> str:
    """The page: how far the study is, its trials, and what matters."""
    placed = {row.number for row in view.ranked}
    rest = sorted(
        (row for row in view.rows if row.number not in placed),
        key=lambda row: (row.status not in RUNNING, row.number),
    )
    rows = [*view.ranked, *rest]
    names = view.hyperparameters
    own, others = names[:MOST_COLUMNS], names[MOST_COLUMNS:]
    errors = any(row.error for row in rows)
    header = ["trial", "status", view.quantity, "epochs", "seconds", *map(cell, own)]
    header += (["other hyperparameters"] if others else []) + (["error"] if errors else [])
    lines = []
    for row in rows[:MOST_ROWS]:
        told = [_value(row, name) for name in own]
        told += [
            ", ".join(f"{cell(name)} {_value(row, name)}" for name in others if name in row.point)
        ] * bool(others)
        seconds = "-" if row.seconds is None else f"{row.seconds:,.1f}"
        value = number(row.best)
        if row.number in placed and row is rows[0]:
            value = f"**{value}**"
        lines.append(
            [link(f"trial {row.number}", row.run_url), cell(row.status), value, number(row.epochs), seconds]
            + told
            + [cell(row.error)] * errors
        )
    parts = [f"# {cell(view.name)}", _state(view), table(header, lines, right=header[2:5])]
    if len(rows) > MOST_ROWS:
        parts.append(f"{len(rows) - MOST_ROWS:,} more trials are not shown; MLflow has all.")
    parts.append(cell(found.sentence))
    if found.shares:
        parts.append(", ".join(f"{cell(name)} **{share:.2f}**" for name, share in found.shares.items()))
    return "\n\n".join(parts)


def _state(view: StudyView) -> str:
    best = view.ranked[:1]
    words = f"Ended: **{cell(view.end_reason)}**, {len(view.rows)} trials." if view.end_reason else (
        f"Running: {view.finished} of {view.planned} trials ended."
    )  # fmt: skip
    if best:
        words += f" Best {cell(view.quantity)} so far: **{number(best[0].best)}** (trial {best[0].number})."
        words = words.replace(" so far", "") if view.end_reason else words
    if view.goal is not None:
        words += f" Goal: {'at least' if view.mode == 'max' else 'at most'} {number(view.goal)}."
    return f"{words} {link('The best as a training', view.best_url)}" if view.best_url else words


def _value(row: Row, name: str) -> str:
    return cell(short(row.point[name])) if name in row.point else "-"
