"""Figure: parallel coordinates: an axis a hyperparameter, a line a trial, the better the darker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks import svg
from tasks.tune.figures.scales import Scale, scales
from tasks.tune.view import StudyView

MOST_AXES = 9
"""Hyperparameters that have room beside each other."""
MOST_LINES = 500
_WIDTH, _HEIGHT, _SIDE, _TOP, _BOTTOM = 960, 380, 90, 40, 52
_ABSENT = 22
"""Where the line of a trial that has no such hyperparameter passes, below the axis."""
_WORST, _BEST = (0xC5, 0xD3, 0xE0), (0x00, 0x5A, 0x9C)
_MOST_MARKS = 12


def coordinates(view: StudyView, order: Sequence[str] = ()) -> str:
    """Draw the trials that have a value, the best one marked.

    Args:
        view: The study.
        order: Hyperparameters that come first, such as the most important ones.

    Returns:
        SVG; empty before two trials have a value, or without a hyperparameter.
    """
    ranked = view.ranked[:MOST_LINES]
    known = scales(view)
    names = [name for name in dict.fromkeys([*order, *known]) if name in known][:MOST_AXES]
    if len(ranked) < 2 or not names:
        return ""
    values = [row.best for row in ranked if row.best is not None]
    result = Scale(min(values), max(values))
    gap = (_WIDTH - 2 * _SIDE) / len(names)

    def down(place: float | None) -> float:
        axis = _HEIGHT - _TOP - _BOTTOM
        return _TOP + axis + _ABSENT if place is None else _TOP + (1 - place) * axis

    parts = []
    for rank, row in reversed(list(enumerate(ranked))):
        places = [known[name].place(row.point[name]) if name in row.point else None for name in names]
        assert row.best is not None
        points = [
            (_SIDE + gap * axis, down(place)) for axis, place in enumerate([*places, result.place(row.best)])
        ]
        worse = rank / (len(ranked) - 1)
        colour = svg.ORANGE if rank == 0 else _colour(worse)
        parts.append(svg.line(points, colour, width=3 if rank == 0 else 1.4, opacity=1 - 0.45 * worse))
    for axis, name in enumerate(names):
        absent = any(name not in row.point for row in ranked)
        parts += _axis(_SIDE + gap * axis, name, known[name], down, gap, absent=absent)
    parts += _axis(_WIDTH - _SIDE, view.quantity, result, down, gap, absent=False)
    detail = f"{view.name} · orange: the best, trial {ranked[0].number}; the better, the darker"
    left_out = len(known) - len(names)
    if left_out:
        detail += f" · {left_out} hyperparameters have no room"
    return svg.card(_WIDTH, _HEIGHT, "Parallel coordinates", detail, parts)


def _axis(
    x: float, name: str, scale: Scale, down: Callable[[float | None], float], room: float, *, absent: bool
) -> list[str]:
    parts = [
        svg.line([(x, down(0.0)), (x, down(1.0))], svg.MUTED, width=1),
        svg.text(x, _TOP - 16, _cut(name, room), anchor="middle", fill=svg.INK, bold=True),
    ]
    marks = scale.marks()
    for place, words in marks[:: -(-len(marks) // _MOST_MARKS)]:
        parts.append(svg.text(x + 7, down(place) + 4, _cut(words, room), on_lines=True))
    if absent:
        parts.append(svg.text(x + 7, down(None) + 4, "not set", on_lines=True))
        parts.append(f'<circle cx="{x:.1f}" cy="{down(None):.1f}" r="2.5" fill="{svg.MUTED}"/>')
    return parts


def _colour(worse: float) -> str:
    mixed = (round(best + (worst - best) * worse) for best, worst in zip(_BEST, _WORST, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _cut(name: str, gap: float) -> str:
    most = max(6, int(gap / 7.4))
    return name if len(name) <= most else f"{name[: most - 1]}…"
