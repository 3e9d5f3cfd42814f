"""The points of a search space: all of a grid, or random ones. Plain, so that a study can be foreseen."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

from tasks.errors import InvalidSettings
from tasks.train.algorithms.algorithm import Value
from tasks.tune.config import SearchDimension

MAX_GRID = 10_000

Point = dict[str, Value]
"""One value for each searched hyperparameter."""


def size(space: Sequence[SearchDimension]) -> float:
    """Points of the space; infinite where a dimension is continuous."""
    return math.prod(dimension.count for dimension in space)


def grid(space: Sequence[SearchDimension]) -> list[Point]:
    """Every point, the last dimension moving fastest.

    Raises:
        InvalidSettings: A dimension is continuous, or the grid has more than `MAX_GRID` points.
    """
    endless = [dimension.name for dimension in space if math.isinf(dimension.count)]
    if endless:
        raise InvalidSettings(
            f"The grid has no end: {', '.join(endless)} can take any value of a range",
            where="search",
            allowed="dimensions with a step or a list of choices",
            mend="give a step, or search at random",
        )
    count = int(size(space))
    if count > MAX_GRID:
        raise InvalidSettings(
            f"The grid has {count:,} points",
            where="search",
            allowed=f"at most {MAX_GRID:,}",
            mend="take larger steps or fewer hyperparameters, or search at random",
        )
    axes = [values(dimension) for dimension in space]
    names = [dimension.name for dimension in space]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*axes)]


def draw(space: Sequence[SearchDimension], count: int, seed: int) -> list[Point]:
    """Distinct random points.

    Returns:
        `count` points, or all points of a space that has no more; the first points of a larger count
        with the same seed are the same.
    """
    if size(space) <= min(count, MAX_GRID):
        points = grid(space)
        random.Random(seed).shuffle(points)
        return points
    chance = random.Random(seed)
    seen: dict[tuple[Value, ...], Point] = {}
    while len(seen) < count:
        point = {dimension.name: _draw_one(dimension, chance) for dimension in space}
        seen.setdefault(tuple(point.values()), point)
    return list(seen.values())


def values(dimension: SearchDimension) -> list[Value]:
    """The values of a dimension that has finitely many."""
    if dimension.kind == "choice":
        return list(dimension.choices)
    return [_value(dimension, place) for place in range(int(dimension.count))]


def _draw_one(dimension: SearchDimension, chance: random.Random) -> Value:
    if dimension.kind == "choice":
        return chance.choice(dimension.choices)
    if not math.isinf(dimension.count):
        return _value(dimension, chance.randrange(int(dimension.count)))
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.kind == "log":
        drawn = math.exp(chance.uniform(math.log(dimension.low), math.log(dimension.high)))
        return min(max(drawn, dimension.low), dimension.high)
    return chance.uniform(dimension.low, dimension.high)


def _value(dimension: SearchDimension, place: int) -> Value:
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.kind == "int":
        return int(dimension.low) + place * int(dimension.step or 1)
    if dimension.step is None:
        return dimension.low
    if dimension.kind == "log":
        return min(dimension.low * dimension.step**place, dimension.high)
    return min(dimension.low + place * dimension.step, dimension.high)
