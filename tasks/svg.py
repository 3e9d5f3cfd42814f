"""Pictures as SVG, written by hand: drawn in a millisecond beside what runs, without matplotlib.

They look like the figures of the report, whose colours they have; every one is a white card, because the
page behind it may be light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

INK, MUTED, RULE = "#1f2933", "#616e7c", "#e4e7eb"
BLUE, ORANGE, GREEN, SKY = "#0072b2", "#d55e00", "#009e73", "#56b4e9"

_HEAD = 34
"""Height of the title's line."""


def card(width: float, height: float, title: str, detail: str, parts: Iterable[str]) -> str:
    """A white card with a title; `parts` are drawn below it, where y is 0."""
    full = height + _HEAD
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {full}" width="{width}" '
            f'height="{full}" font-family="DejaVu Sans, Verdana, sans-serif" font-size="11">',
            f'<rect width="{width}" height="{full}" fill="#ffffff"/>',
            f'<text x="12" y="24" font-size="16" font-weight="bold" fill="{INK}">{escaped(title)}</text>',
            text(width - 12, 24, detail, anchor="end"),
            f'<g transform="translate(0,{_HEAD})">',
            *parts,
            "</g></svg>",
        ]
    )


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    fill: str = MUTED,
    bold: bool = False,
    on_lines: bool = False,
) -> str:
    """A line of text that stands on `y`; `on_lines` it has a white rim, to be read among them."""
    more = ' font-weight="bold"' if bold else ""
    more += ' stroke="#ffffff" stroke-width="4" paint-order="stroke"' if on_lines else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}"{more}>{escaped(words)}</text>'


def line(
    points: Iterable[tuple[float, float]],
    stroke: str,
    *,
    width: float = 2.0,
    opacity: float = 1.0,
    dashed: bool = False,
) -> str:
    """A line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="{width}" '
        f'stroke-opacity="{opacity:.2f}" stroke-linejoin="round"{dashes}/>'
    )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values that lie around a range, some `count` of them."""
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    rough = (high - low) / (count - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.floor(low / step)
    found = [0.0 if n == 0 else n * step for n in range(first, math.ceil(high / step) + 1)]
    return found if all(a < b for a, b in pairwise(found)) else [low, high]


def escaped(words: str) -> str:
    """Text that XML takes as text."""
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
