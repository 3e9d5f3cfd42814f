"""The points of a search space: all of a grid, or random ones. Plain, so that a study can be foreseen."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence

from tasks.errors import InvalidSettings
from tasks.train.algorithms.algorithm import Value
from tasks.tune.config import SearchDimension

MAX_GRID = 10_000

Point = dict[str, Value]
"""One value for each searched hyperparameter; those whose condition is not met are left out."""

Key = frozenset[tuple[str, bool, Value]]


def size(space: Sequence[SearchDimension]) -> float:
    """Points of the space that differ; infinite where a dimension is continuous."""
    below: dict[str, float] = {}  # points of a dimension with those that depend on it
    for dimension in reversed(space):
        dependent = [one for one in space if one.only_if and one.only_if.name == dimension.name]
        named = {dimension.place(value) for one in dependent if one.only_if for value in one.only_if.values}
        places = [place for place in named if place is not None]
        below[dimension.name] = dimension.count - len(places)
        for place in places:
            point = {dimension.name: dimension.at(place)}
            below[dimension.name] += math.prod(below[one.name] for one in dependent if one.searched(point))
    return math.prod(below[dimension.name] for dimension in space if dimension.only_if is None)


def refuse_grid(space: Sequence[SearchDimension]) -> None:
    """Refuse a grid that has no end or too many points, without listing them.

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


def grid(space: Sequence[SearchDimension]) -> list[Point]:
    """Every point, the last dimension moving fastest.

    Raises:
        InvalidSettings: A dimension is continuous, or the grid has more than `MAX_GRID` points.
    """
    refuse_grid(space)
    points: list[Point] = [{}]
    for dimension in space:
        axis = values(dimension)
        points = [
            longer
            for point in points
            for longer in (
                [{**point, dimension.name: value} for value in axis] if dimension.searched(point) else [point]
            )
        ]
    return points


def draw(space: Sequence[SearchDimension], count: int, seed: int) -> list[Point]:
    """Distinct random points.

    Returns:
        `count` points, or all points of a space that has no more; the first points of a larger count
        with the same seed are the same.
    """
    return list(itertools.islice(drawn(space, seed), count))


def drawn(space: Sequence[SearchDimension], seed: int) -> Iterator[Point]:
    """Distinct random points, until there are no more."""
    chance = random.Random(seed)
    total = size(space)
    if total <= MAX_GRID:
        points = grid(space)
        chance.shuffle(points)
        yield from points
        return
    seen: set[Key] = set()
    while len(seen) < total:
        point = draw_one(space, chance)
        if key(point) not in seen:
            seen.add(key(point))
            yield point


def draw_one(space: Sequence[SearchDimension], chance: random.Random) -> Point:
    """A random point."""
    point: Point = {}
    for dimension in space:
        if dimension.searched(point):
            point[dimension.name] = draw_value(dimension, chance)
    return point


def draw_value(dimension: SearchDimension, chance: random.Random) -> Value:
    """A random value of a dimension."""
    if not math.isinf(dimension.count):
        return dimension.at(chance.randrange(int(dimension.count)))
    low, high = dimension.ends
    if dimension.kind == "log":
        return min(max(math.exp(chance.uniform(math.log(low), math.log(high))), low), high)
    return chance.uniform(low, high)


def values(dimension: SearchDimension) -> list[Value]:
    """The values of a dimension that has finitely many."""
    return [dimension.at(place) for place in range(int(dimension.count))]


def holds(space: Sequence[SearchDimension], point: Point) -> bool:
    """Whether a point has a value in its range for what is searched with it, and nothing else."""
    searched = [dimension for dimension in space if dimension.searched(point)]
    return {dimension.name for dimension in searched} == set(point) and all(
        dimension.takes(point[dimension.name]) for dimension in searched
    )


def key(point: Point) -> Key:
    """What equal points have in common, whatever the order of their values; true is not 1."""
    return frozenset((name, isinstance(value, bool), value) for name, value in point.items())
