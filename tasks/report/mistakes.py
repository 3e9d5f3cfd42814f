"""What a model got most wrong: pictures with what they are and what they were taken for, or a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from PIL import Image

from tasks.markdown import cell, number, table
from tasks.report import style
from tasks.report.sample_grid import draw_picture

if TYPE_CHECKING:
    from tasks.evaluate.mistakes import Mistake

COLUMNS = 8


def mistakes_grid(mistakes: Sequence[Mistake], pictures: Mapping[str, Image.Image], *, detail: str) -> Figure:
    """Draw misclassified pictures, the surest mistakes first.

    Args:
        mistakes: Rows that were predicted wrong.
        pictures: Pictures by row id; a mistake without one is left out.
        detail: The split and the model.
    """
    shown = [mistake for mistake in mistakes if mistake.id in pictures]
    rows = max(1, -(-len(shown) // COLUMNS))
    card = style.figure(0.55 + 1.5 * rows)
    grid = card.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for mistake, axes in zip(shown, grid.flat, strict=False):
        draw_picture(axes, pictures[mistake.id])
        axes.set_title(_short(str(mistake.true)), fontsize=9, color=style.GREEN, pad=3)
        said = f"{_short(str(mistake.predicted))}\n{mistake.score:.0%} sure"
        axes.text(0.5, -0.04, said, transform=axes.transAxes, ha="center", va="top", fontsize=8.5,
                  color=style.ORANGE, linespacing=1.25)  # fmt: skip
    style.title(card, "The surest mistakes", f"true above, predicted below · {detail}")
    return card


def mistakes_table(mistakes: Sequence[Mistake], rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The most wrong rows of a table as Markdown.

    Args:
        mistakes: Rows that were predicted wrong, or with the largest errors.
        rows: Some of their columns, by row id.
    """
    if not mistakes:
        return ""
    columns = list(next(iter(rows.values()), {}))
    named = isinstance(mistakes[0].true, str)
    header = ["row", "true", "predicted", "sure" if named else "error", *map(cell, columns)]
    lines = [
        [
            cell(mistake.id),
            _value(mistake.true),
            _value(mistake.predicted),
            f"{mistake.score:.1%}" if named else number(mistake.score),
            *(_value(rows.get(mistake.id, {}).get(column, "")) for column in columns),
        ]
        for mistake in mistakes
    ]
    return table(header, lines, right=["sure", "error"])


def _value(value: Any) -> str:
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else cell(value)


def _short(text: str, length: int = 14) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
