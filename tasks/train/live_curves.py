"""The learning curves so far as an SVG picture: drawn in a millisecond beside the loop, without matplotlib.

It looks like the figure that the report draws at the end, from which it takes the colours of the splits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice

from tasks import svg
from tasks.train.algorithms.fit import Metrics
from tasks.train.cross_validation import FIT, FIT_EPOCH, FITS

QUANTITIES = ("loss", "accuracy", "rmse")
COLOURS = {"train": svg.BLUE, "validation": svg.ORANGE}
_WIDTH, _HEIGHT = 480, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 18, 46, 44

_MOST_OWN = 3
"""Panels of own code."""
_EARLIER = 0.35
"""Opacity of the lines of earlier folds."""

Points = list[tuple[float, float]]


def live_curves(epochs: Sequence[tuple[int, Metrics]], planned: int, detail: str = "") -> str:
    """Draw a panel a quantity, in it a line a split; of a cross-validation a fold each, earlier ones faint.

    Args:
        epochs: Finished epochs with their metrics.
        planned: Epochs that there will be at most, those of all folds together; 0 for own code, which has
            steps and names of its own: then the panels are its first metrics, unless it knows our names.
        detail: What is trained.

    Returns:
        SVG; empty before two epochs of a fit are there to be joined by a line.
    """
    panels = {quantity: _curves(epochs, quantity) for quantity in QUANTITIES}
    shown = {quantity: curves for quantity, curves in panels.items() if curves}
    if not planned:
        names = dict.fromkeys(name for _, metrics in epochs for name in metrics)
        own = {name: {"": [_points(epochs, name)]} for name in names}
        panels = {name: curves for name, curves in (shown | own).items() if _has_line(curves)}
        shown = {name: panels[name] for name in [name for name in panels if name in shown] or panels}
        shown = dict(islice(shown.items(), _MOST_OWN))
    if not any(map(_has_line, shown.values())):
        return ""
    latest = epochs[-1][1]
    fits = int(latest.get(FITS, 1))
    each = planned // fits
    heading = f"Learning curves after step {epochs[-1][0]}"
    if planned:
        heading = f"Learning curves after {latest.get(FIT_EPOCH, epochs[-1][0]):.0f} of {each} epochs"
    if fits > 1:
        fold = f"fold {latest[FIT]:.0f} of {fits - 1}"
        heading += ", " + ("all rows (faint: the folds)" if latest[FIT] == fits else fold)
    panels_drawn = [
        f'<g transform="translate({place * _WIDTH},0)">{_panel(svg.escaped(quantity), curves, each)}</g>'
        for place, (quantity, curves) in enumerate(shown.items())
    ]
    return svg.card(_WIDTH * len(shown), _HEIGHT, heading, detail, panels_drawn)


def _curves(epochs: Sequence[tuple[int, Metrics]], quantity: str) -> dict[str, list[Points]]:
    """The lines of each split that has any, a line a fit; the last is the running one, and may be empty."""
    running = epochs[-1][1].get(FIT, 1) if epochs else 1
    curves: dict[str, list[Points]] = {}
    for split in COLOURS:
        lines: dict[float, Points] = {}
        for epoch, metrics in epochs:
            value = metrics.get(f"{split}_{quantity}", math.nan)
            if math.isfinite(value):
                lines.setdefault(metrics.get(FIT, 1), []).append((metrics.get(FIT_EPOCH, epoch), value))
        if lines:
            lines.setdefault(running, [])
            curves[split] = list(lines.values())
    return curves


def _points(epochs: Sequence[tuple[int, Metrics]], name: str) -> Points:
    known = ((epoch, metrics.get(name, math.nan)) for epoch, metrics in epochs)
    return [(epoch, value) for epoch, value in known if math.isfinite(value)]


def _has_line(curves: dict[str, list[Points]]) -> bool:
    return any(len(points) > 1 for lines in curves.values() for points in lines)


def _panel(quantity: str, curves: dict[str, list[Points]], planned: int) -> str:
    shown = [point for lines in curves.values() for points in lines for point in points]
    values = [value for _, value in shown]
    ticks = svg.ticks(min(values), max(values))
    low, high = min(ticks[0], min(values)), max(ticks[-1], max(values))
    first = min(1, *(epoch for epoch, _ in shown))  # own code may count from 0
    last = max(planned, *(epoch for epoch, _ in shown), first + 1)

    def across(epoch: float) -> float:
        return _LEFT + (epoch - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def down(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<text x="{_LEFT}" y="20" font-size="13" fill="{svg.INK}">{quantity}</text>']
    for tick in ticks:
        y = down(tick)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{svg.RULE}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="{svg.MUTED}">{tick:.4g}</text>'
        )
    parts += [
        f'<text x="{across(epoch):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle" '
        f'fill="{svg.MUTED}">{epoch}</text>'
        for epoch in sorted({round(first + (last - first) * part / 4) for part in range(5)})
    ]
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle" '
        f'fill="{svg.MUTED}">{"epoch" if planned else "step"}</text>'
    )
    for place, (split, lines) in enumerate(curves.items()):
        colour = COLOURS.get(split, COLOURS["train"])
        for points in filter(None, lines):
            line = " ".join(f"{across(epoch):.1f},{down(value):.1f}" for epoch, value in points)
            strength = "" if points is lines[-1] else f' stroke-opacity="{_EARLIER}"'
            parts.append(
                f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" '
                f'stroke-linejoin="round"{strength}/>'
            )
        x = _WIDTH - _RIGHT - 170 + 85 * place
        for epoch, value in lines[-1][-1:]:
            parts.append(f'<circle cx="{across(epoch):.1f}" cy="{down(value):.1f}" r="3" fill="{colour}"/>')
        parts.append(
            f'<line x1="{x}" x2="{x + 16}" y1="16" y2="16" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{x + 20}" y="20" fill="{svg.INK}">{split}</text>'
        )
    return "".join(parts)
