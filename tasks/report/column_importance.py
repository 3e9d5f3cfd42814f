"""Figure: what the columns of a table are worth to a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.report import style

if TYPE_CHECKING:
    from tasks.evaluate.importance import ColumnImportance, Importance

MOST_BARS = 15


def column_importance(importance: Importance, *, detail: str = "") -> Figure:
    """Draw the loss by shuffling each column, and beside it what the model itself counts, if it does.

    Args:
        importance: The columns, the most important first.
        detail: The split and the model.
    """
    bars = min(max(len(importance.permutation), len(importance.native), 3), MOST_BARS)
    card = style.figure(1.4 + 0.27 * bars)
    panels = card.subplots(1, 2 if importance.native else 1, squeeze=False)[0]
    _bars(panels[0], importance.permutation, style.BLUE)
    loss = "error" if importance.metric == "accuracy" else importance.metric
    panels[0].set_xlabel(f"{loss} added by shuffling the column")
    if importance.native:
        _bars(panels[1], importance.native, style.GREEN)
        panels[1].set_xlabel("share in the model's own count")
    times = f"{importance.repeats} times " if importance.repeats > 1 else ""
    shuffled = f"{importance.rows:,} rows shuffled {times}"
    style.title(card, "What the columns are worth", f"{shuffled.strip()} · {detail}" if detail else shuffled)
    return card


def _bars(axes: Axes, columns: Sequence[ColumnImportance], colour: str) -> None:
    shown = list(columns[:MOST_BARS])
    axes.barh(
        range(len(shown)), [column.importance for column in shown], 0.72, color=colour,
        xerr=[column.deviation for column in shown] if any(column.deviation for column in shown) else None,
        error_kw={"ecolor": style.MUTED, "elinewidth": 1},
    )  # fmt: skip
    names = [column.name if len(column.name) <= 24 else column.name[:23] + "…" for column in shown]
    axes.set_yticks(range(len(shown)), names)
    axes.invert_yaxis()
    axes.axvline(0, color=style.MUTED, linewidth=0.8)
    style.plain_axes(axes, grid="x")
    axes.tick_params(axis="y", colors=style.INK)
    axes.locator_params(axis="x", nbins=5)
