"""One look for every figure: a white card, a colour-blind safe palette, no state outside the figure.

Figures are made with matplotlib's object interface, so that two tasks that draw at the same time
share nothing. Every figure is a white card, because the page behind it may be light or dark.
"""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK = "#1f2933"
MUTED = "#616e7c"
RULE = "#e4e7eb"
CARD = "#ffffff"

# Okabe and Ito's palette, which people with any of the common colour deficiencies can tell apart.
BLUE = "#0072b2"
ORANGE = "#d55e00"
GREEN = "#009e73"
PURPLE = "#a9569b"
AMBER = "#e69f00"
SKY = "#56b4e9"

SPLIT_COLOURS = {"all": MUTED, "train": BLUE, "validation": ORANGE, "test": GREEN}
SERIES_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY)

WIDTH_IN = 8.0
"""Width of a full figure in inches: 960 pixels, about what an artifact page shows."""
DPI = 120
MAX_PNG_BYTES = 200_000
"""Larger pictures make the artifact page slow, since each travels inside the page's own data."""


def figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """An empty white card with its own canvas."""
    card = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor=CARD, layout="constrained")
    card.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr,call-arg]
    FigureCanvasAgg(card)
    return card


def title(card: Figure, text: str, detail: str = "") -> None:
    """Head the card with a title and, in a quieter tone, the detail of what is shown."""
    width_in, height_in = card.get_size_inches()
    top = 1 - 0.09 / height_in
    room = (0, 0, 1, 1 - 0.36 / height_in)  # placed by hand, the title is not in the layout's count
    card.get_layout_engine().set(rect=room)  # type: ignore[union-attr,call-arg]
    card.suptitle(text, x=0.1 / width_in, y=top, ha="left", fontsize=13, fontweight="bold", color=INK)
    if detail:
        lower = top - 0.035 / height_in  # the smaller letters stand on the title's line
        card.text(1 - 0.1 / width_in, lower, detail, ha="right", va="top", fontsize=9.5, color=MUTED)


def plain_axes(axes: Axes, *, grid: str = "y") -> None:
    """Take the frame away, keep faint rules along `grid` (`x`, `y`, `both` or empty for none)."""
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom" and grid in {"y", "both"})
        spine.set_color(RULE)
    if grid:
        axes.grid(axis=grid, color=RULE, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=9, length=0)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
    axes.title.set_color(INK)


def legend(axes: Axes, **place: Any) -> None:
    """A legend without a frame, in ink."""
    drawn = axes.legend(frameon=False, fontsize=9, **place)
    for text in drawn.get_texts():
        text.set_color(INK)


def png(card: Figure) -> bytes:
    """Render as PNG, at a lower resolution where the picture would be too heavy for a page.

    Returns:
        PNG bytes, at most `MAX_PNG_BYTES` unless the figure stays heavier at a quarter of `DPI`.
    """
    resolution = DPI
    while True:
        buffer = io.BytesIO()
        card.savefig(buffer, format="png", dpi=resolution, facecolor=CARD)
        picture = buffer.getvalue()
        if len(picture) <= MAX_PNG_BYTES or resolution <= DPI // 4:
            return picture
        resolution = int(resolution * 0.8)
