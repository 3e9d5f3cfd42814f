"""Figure: the value of each trial, and the best so far."""

from __future__ import annotations

from statistics import median

from tasks import svg
from tasks.tune.view import RUNNING, Row, StudyView

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 960, 340, 70, 24, 34, 44
_FAR = 4.0
"""Values farther from the best than so many times the median's distance are drawn at the edge."""
_FEW = 4
"""Among so few values none is called far away."""
_MARKS = ("succeeded", "early stopped", "killed", "running", "no value")


def history(view: StudyView) -> str:
    """Draw a mark a trial, the line of the best so far, and the goal.

    Returns:
        SVG; empty before a trial has a value.
    """
    ranked = view.ranked
    if not ranked:
        return ""
    low, high = _range(view)
    marks = svg.ticks(low, high)
    low, high = min(marks[0], low), max(marks[-1], high)
    last = max(view.planned if not view.end_reason else 0, view.rows[-1].number, 2)

    def across(trial: float) -> float:
        return _LEFT + (trial - 1) / (last - 1) * (_WIDTH - _LEFT - _RIGHT)

    def down(value: float) -> float:
        place = (high - min(max(value, low), high)) / (high - low)
        return _TOP + place * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for mark in marks:
        parts.append(svg.line([(_LEFT, down(mark)), (_WIDTH - _RIGHT, down(mark))], svg.RULE, width=1))
        parts.append(svg.text(_LEFT - 8, down(mark) + 4, f"{mark:.4g}", anchor="end"))
    parts += [
        svg.text(across(number), _HEIGHT - _BOTTOM + 20, str(number), anchor="middle")
        for number in _numbers(last)
    ]
    parts.append(svg.text(_WIDTH / 2, _HEIGHT - 8, "trial", anchor="middle"))
    parts.append(svg.text(_LEFT, 18, view.quantity, fill=svg.INK))
    if view.goal is not None:
        y = down(view.goal)
        parts.append(svg.line([(_LEFT, y), (_WIDTH - _RIGHT, y)], svg.GREEN, width=1.5, dashed=True))
        edge = "" if low <= view.goal <= high else ", beyond this picture"
        words = f"goal {view.goal:.4g}{edge}"
        parts.append(
            svg.text(_LEFT + 6, y - 5 if y > _TOP + 14 else y + 14, words, fill=svg.GREEN, on_lines=True)
        )
    steps, so_far = best_so_far(view), []
    for place, (number, value) in enumerate(steps):
        if place:
            so_far.append((across(number), down(steps[place - 1][1])))
        so_far.append((across(number), down(value)))
    so_far.append((across(view.rows[-1].number), down(steps[-1][1])))
    parts.append(svg.line(so_far, svg.ORANGE))
    for row in view.rows:
        y = _HEIGHT - _BOTTOM if row.best is None else down(row.best)
        far = row.best is not None and not low <= row.best <= high
        parts.append(_mark(_kind(row), across(row.number), y, far=far))
    best = ranked[0]
    assert best.best is not None
    parts.append(_best_label(across(best.number), down(best.best), best, below=view.mode == "min"))
    parts += _legend(view)
    ended = f"{view.finished} of {view.planned} trials ended" if view.planned else f"{view.finished} trials"
    return svg.card(_WIDTH, _HEIGHT, "History", f"{view.name} · {ended}", parts)


def best_so_far(view: StudyView) -> list[tuple[int, float]]:
    """The trials that were better than all of a lower number, with their values."""
    steps: list[tuple[int, float]] = []
    for row in view.rows:
        if row.best is None:
            continue
        known = steps[-1][1] if steps else None
        if known is None or (row.best > known if view.mode == "max" else row.best < known):
            steps.append((row.number, row.best))
    return steps


def _range(view: StudyView) -> tuple[float, float]:
    """The values to show: without those so far from the best that the others would be one line."""
    values = [row.best for row in view.ranked if row.best is not None]
    best, worst = values[0], values[-1]
    usual = abs(median(values) - best)
    if len(values) > _FEW and abs(worst - best) > _FAR * usual > 0:
        worst = best + (_FAR * usual if worst > best else -_FAR * usual)
    low, high = min(best, worst), max(best, worst)
    room = high - low or abs(high) or 1.0
    if view.goal is not None and low - room <= view.goal <= high + room:
        low, high = min(low, view.goal), max(high, view.goal)
    return low, high


def _numbers(last: int) -> list[int]:
    """The trials whose number is written: the first, and round ones up to the last."""
    return [1, *(int(mark) for mark in svg.ticks(0, last, 9) if 1 < mark <= last and mark.is_integer())]


def _kind(row: Row) -> str:
    if row.status in RUNNING:
        return "running"
    if row.best is None:
        return "no value"
    return row.status if row.status in _MARKS else "killed"


def _mark(kind: str, x: float, y: float, *, far: bool = False) -> str:
    if kind == "no value":
        return "".join(
            svg.line([(x - 4, y - 4 * side), (x + 4, y + 4 * side)], svg.ORANGE, width=1.6)
            for side in (1, -1)
        )
    if far:
        return f'<path d="M{x - 5:.1f},{y - 4:.1f}h10l-5,8z" fill="{svg.MUTED}"/>'
    fill = {"succeeded": svg.BLUE, "early stopped": svg.SKY, "killed": svg.MUTED}.get(kind, "#ffffff")
    edge = svg.BLUE if kind == "running" else fill
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{edge}" stroke-width="1.5"/>'


def _best_label(x: float, y: float, best: Row, *, below: bool) -> str:
    anchor = "end" if x > _WIDTH - 200 else "start"
    down = 18 if below and y < _HEIGHT - _BOTTOM - 20 else -10
    words = f"best {best.best:.4g}, trial {best.number}"
    return svg.text(
        x + (-4 if anchor == "end" else 4),
        y + down,
        words,
        anchor=anchor,
        fill=svg.ORANGE,
        bold=True,
        on_lines=True,
    )


def _legend(view: StudyView) -> list[str]:
    there = {_kind(row) for row in view.rows}
    parts, x = [], float(_WIDTH - _RIGHT)
    for kind in reversed([kind for kind in _MARKS if kind in there]):
        x -= 7.0 * len(kind)
        parts += [svg.text(x, 18, kind, fill=svg.INK), _mark(kind, x - 10, 14)]
        x -= 34
    parts.append(svg.text(x - 70, 18, "best so far", fill=svg.INK))
    parts.append(svg.line([(x - 94, 14), (x - 76, 14)], svg.ORANGE))
    return parts
