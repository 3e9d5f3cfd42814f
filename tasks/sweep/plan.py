"""What a sweep tries next: every algorithm as it is, then points of the search of those that did best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tasks.refs import Problem
from tasks.train import algorithms
from tasks.tune.config import TuneConfig
from tasks.tune.points import Point, draw
from tasks.tune.ranges import resolve

ENSEMBLE = "ensemble"
"""Stands for the algorithm of the training that is made of the others."""


@dataclass(frozen=True)
class Attempt:
    """One training of a sweep.

    Attributes:
        number: Its place in the order of starts, from 1.
        algorithm: What to train.
        reason: Why, in words.
        point: Hyperparameters that differ from the defaults; none for an algorithm's first attempt.
    """

    number: int
    algorithm: str
    reason: str
    point: Point = field(default_factory=dict)


def points_of(
    names: Sequence[str], problem: Problem, rows: int, limit: int, seed: int
) -> dict[str, list[Point]]:
    """The points that each algorithm may be tried with after its defaults: random ones of its usual search.

    Args:
        names: The algorithms.
        problem: What is to be learned.
        rows: Rows of the dataset version.
        limit: Trainings of one algorithm at most, the one with its defaults among them.
        seed: Start of the random numbers; the same gives the same points in the same order.
    """
    if limit < 2:
        return {}
    return {
        name: draw(resolve(TuneConfig(algorithm=name), problem, rows)[1], limit - 1, seed)
        for name in names
        if algorithms.get(name, problem).usual_search
    }


def next_search(ranked: Sequence[str], begun: Mapping[str, int], limit: int) -> str | None:
    """The algorithm to try with another point; None where each has had its number.

    As in successive halving, the best may have `limit` trainings, the second half as many, the third a
    quarter, and all the rest one. Whichever of them has had fewest is next; of equals, the better one.

    Args:
        ranked: Algorithms that have a score, best first.
        begun: Trainings begun so far, by algorithm.
        limit: Trainings of the best algorithm.
    """
    open_places = [
        (begun[name], place, name) for place, name in enumerate(ranked) if begun[name] < -(-limit // 2**place)
    ]
    return min(open_places)[2] if open_places else None
