"""Which point to try next: the searchers, each a function of the seed and of what was told so far.

A study that goes on after a crash recalls its trials and gets the suggestions that it would have had:
no random numbers are carried from one suggestion to the next.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tasks.train.algorithms.algorithm import Value
from tasks.tune import points
from tasks.tune.config import SearchDimension
from tasks.tune.points import Point

if TYPE_CHECKING:
    import optuna

ATTEMPTS = 10
"""Suggestions of a searcher that were tried already, before a random point is taken."""

STEP_SHARE = 0.15
"""Standard deviation of a mutation, as a share of the range."""


class Suggestions:
    """Points to try, one for each trial, by the trials' numbers from 0.

    Trials of before are recalled in the order of their numbers, before the first suggestion.

    Args:
        space: What is searched, with its ranges.
        searcher: `grid`, `random`, `tpe` or `evolution`.
        seed: Start of the random numbers.
        mode: Whether the value that is told is better the smaller (`min`) or the larger.
        planned: Trials to run at most: the fewer, the sooner results count.
    """

    def __init__(
        self,
        space: Sequence[SearchDimension],
        searcher: Literal["random", "grid", "tpe", "evolution"],
        seed: int,
        mode: Literal["min", "max"],
        planned: int = 30,
    ) -> None:
        self._space, self._searcher, self._seed, self._mode = list(space), searcher, seed, mode
        self._startup = max(4, min(10, planned // 3))
        self._points: dict[int, Point] = {}
        self._values: dict[int, float] = {}
        self._tried: set[points.Key] = set()
        self._listed = iter(points.grid(space)) if searcher == "grid" else points.drawn(space, seed)
        self._tpe = _Tpe(self._space, mode, self._startup) if searcher == "tpe" else None

    def suggest(self, number: int) -> Point | None:
        """A point for trial `number` that was not tried before; None when there are no more."""
        point = self._new(number)
        if point is not None:
            self._note(number, point)
        return point

    def tell(self, number: int, value: float | None) -> None:
        """The value that a trial ended with; None or a value that is not finite if it has none."""
        known = value is not None and math.isfinite(value)
        if value is not None and known:
            self._values[number] = value
        if self._tpe:
            self._tpe.end(number, value if known else None)

    def recall(self, number: int, point: Point, value: float | None = None, *, ended: bool = True) -> None:
        """A trial of before, which may have searched another space.

        Args:
            number: Its number.
            point: What it tried.
            value: What it ended with, if it has a value.
            ended: False for one that goes on, of which `tell` will tell.
        """
        if self._tpe:
            self._tpe.add(number, point)
        self._note(number, point)
        if ended:
            self.tell(number, value)

    def _note(self, number: int, point: Point) -> None:
        self._points[number] = point
        self._tried.add(points.key(point))

    def _new(self, number: int) -> Point | None:
        for attempt in range(ATTEMPTS):
            start = f"{self._seed} {number} {attempt}"
            if self._tpe:
                point = self._tpe.ask(number, random.Random(start).getrandbits(32))
            elif self._searcher == "evolution" and len(self._values) >= self._startup:
                point = _child(self._space, self._best(), random.Random(start))
            else:
                break
            if points.key(point) not in self._tried:
                return point
            if self._tpe:
                self._tpe.end(number, None)
        untried = (point for point in self._listed if points.key(point) not in self._tried)
        found = next(untried, None)
        if found is not None and self._tpe:
            self._tpe.add(number, found)
        return found

    def _best(self) -> list[Point]:
        """The best points, the best first; of equals the earlier."""
        sign = 1 if self._mode == "min" else -1
        ranked = sorted(self._values, key=lambda number: (sign * self._values[number], number))
        return [self._points[number] for number in ranked[: self._startup]]


class _Tpe:
    """Optuna's tree-structured Parzen estimator, with a sampler of its own seed for each suggestion."""

    def __init__(self, space: list[SearchDimension], mode: Literal["min", "max"], startup: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.startup = space, startup
        self.study = optuna.create_study(direction="minimize" if mode == "min" else "maximize")
        self.numbers: dict[int, int] = {}

    def ask(self, number: int, seed: int) -> Point:
        import optuna

        self.study.sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=self.startup, multivariate=False
        )
        trial = self.study.ask()
        point: Point = {}
        for dimension in self.space:
            if dimension.searched(point):
                point[dimension.name] = _asked(trial, dimension)
        self.numbers[number] = trial.number
        return point

    def add(self, number: int, point: Point) -> None:
        """A trial that runs, with those of its values that the space has."""
        import optuna

        had = [one for one in self.space if one.name in point and one.takes(point[one.name])]
        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params={one.name: _stored(one, point[one.name]) for one in had},
            distributions={one.name: _distribution(one) for one in had},
        )
        self.numbers[number] = len(self.study.get_trials(deepcopy=False))
        self.study.add_trial(trial)

    def end(self, number: int, value: float | None) -> None:
        import optuna

        failed = optuna.trial.TrialState.FAIL
        self.study.tell(self.numbers[number], value, state=failed if value is None else None)


def _distribution(dimension: SearchDimension) -> optuna.distributions.BaseDistribution:
    """Places of values that are finitely many, and the range of others."""
    import optuna

    if math.isinf(dimension.count):
        low, high = dimension.ends
        return optuna.distributions.FloatDistribution(low, high, log=dimension.kind == "log")
    if dimension.kind == "choice":
        return optuna.distributions.CategoricalDistribution(list(range(len(dimension.choices))))
    return optuna.distributions.IntDistribution(0, int(dimension.count) - 1)


def _stored(dimension: SearchDimension, value: Value) -> Value:
    """A value as the study of Optuna has it."""
    place = None if math.isinf(dimension.count) else dimension.place(value)
    return value if place is None else place


def _asked(trial: optuna.Trial, dimension: SearchDimension) -> Value:
    name = dimension.name
    if math.isinf(dimension.count):
        low, high = dimension.ends
        return trial.suggest_float(name, low, high, log=dimension.kind == "log")
    if dimension.kind == "choice":
        return dimension.choices[trial.suggest_categorical(name, list(range(len(dimension.choices))))]
    return dimension.at(trial.suggest_int(name, 0, int(dimension.count) - 1))


def _child(space: Sequence[SearchDimension], best: Sequence[Point], chance: random.Random) -> Point:
    """A mixture of two of the best points, one of its values changed on average.

    Evolution without generations: a parent is the better of two that are drawn, and a trial that ends
    counts at once, whatever runs beside it. Optuna's samplers note generations inside of trials, which
    cannot be recalled.
    """
    parents = [best[min(chance.randrange(len(best)), chance.randrange(len(best)))] for _ in range(2)]
    child: Point = {}
    for dimension in space:
        if not dimension.searched(child):
            continue
        chance.shuffle(parents)
        had = [one[dimension.name] for one in parents if dimension.name in one]
        had = [value for value in had if dimension.takes(value)]
        changed = chance.random() < 1 / len(space)
        if not had:
            child[dimension.name] = points.draw_value(dimension, chance)
        else:
            child[dimension.name] = _mutated(dimension, had[0], chance) if changed else had[0]
    return child


def _mutated(dimension: SearchDimension, value: Value, chance: random.Random) -> Value:
    """Another value: any of a list, one nearby of numbers."""
    if dimension.kind == "choice":
        return points.draw_value(dimension, chance)
    place = None if math.isinf(dimension.count) else dimension.place(value)
    if place is not None:
        last = int(dimension.count) - 1
        far = max(1, round(abs(chance.gauss(0, STEP_SHARE * last))))
        moved = place + chance.choice((-far, far))
        return dimension.at(min(max(moved, 0), last))
    low, high = dimension.ends
    number = float(value)
    if dimension.kind == "log":
        low, high, number = math.log(low), math.log(high), math.log(number)
    moved_to = min(max(chance.gauss(number, STEP_SHARE * (high - low)), low), high)
    first, last_value = dimension.ends
    return min(max(math.exp(moved_to) if dimension.kind == "log" else moved_to, first), last_value)
