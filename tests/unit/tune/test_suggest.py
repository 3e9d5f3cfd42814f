"""Searchers: repeatable, inside the space, never twice the same, and the same again after a recall."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.tune import points
from tasks.tune.config import SearchDimension
from tasks.tune.points import Point
from tasks.tune.suggest import Suggestions

Searcher = Literal["random", "grid", "tpe", "evolution"]
SEARCHERS: tuple[Searcher, ...] = ("random", "grid", "tpe", "evolution")

FINITE = [
    {"name": "optimizer", "kind": "choice", "choices": ["sgd", "adamw", True]},
    {"name": "layers", "kind": "int", "low": 1, "high": 3},
    {
        "name": "momentum",
        "kind": "float",
        "low": 0,
        "high": 0.9,
        "step": 0.3,
        "only_if": {"name": "optimizer", "values": ["sgd"]},
    },
]
ENDLESS = [
    *FINITE[:2],
    {"name": "rate", "kind": "log", "low": 1e-5, "high": 1.0},
    {
        "name": "decay",
        "kind": "float",
        "low": 0,
        "high": 1,
        "only_if": {"name": "optimizer", "values": ["adamw"]},
    },
    {"name": "deep", "kind": "int", "low": 0, "high": 9, "only_if": {"name": "layers", "values": [2, 3]}},
]


def _space(about: list[dict[str, Any]]) -> list[SearchDimension]:
    return [SearchDimension.model_validate(one) for one in about]


def _score(point: Point) -> float:
    """Best, 0, at rate 0.01, with sgd and two layers."""
    rate = float(point.get("rate", 0.01))
    return (math.log10(rate) + 2) ** 2 + (point["optimizer"] != "sgd") + abs(float(point["layers"]) - 2)


def _live(search: Suggestions, numbers: range, ahead: int = 0) -> dict[int, tuple[Point, float | None]]:
    """Trials of which some run beside others; every fifth fails."""
    lived: dict[int, tuple[Point, float | None]] = {}
    waiting: list[int] = []
    for number in numbers:
        point = search.suggest(number)
        if point is None:
            break
        lived[number] = point, None if number % 5 == 4 else _score(point)
        waiting.append(number)
        if len(waiting) > ahead:
            done = waiting.pop()
            search.tell(done, lived[done][1])
    for number in waiting:
        search.tell(number, lived[number][1])
    return lived


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 25), st.integers(0, 2))
@pytest.mark.parametrize("searcher", SEARCHERS)
def test_a_recall_goes_on_as_if_it_had_lived_it(
    searcher: Searcher, seed: int, count: int, ahead: int
) -> None:
    space = _space(FINITE if searcher == "grid" else ENDLESS)
    search = Suggestions(space, searcher, seed, "min")
    lived = _live(search, range(count), ahead)
    again = Suggestions(space, searcher, seed, "min")
    for number, (point, value) in lived.items():
        again.recall(number, point, value)
    assert _live(again, range(count, count + 4)) == _live(search, range(count, count + 4))


@pytest.mark.parametrize("searcher", ["tpe", "evolution"])
def test_a_trial_that_goes_on_is_told_after_the_recall(searcher: Searcher) -> None:
    space = _space(ENDLESS)
    search = Suggestions(space, searcher, 1, "min")
    lived = _live(search, range(12))
    running = search.suggest(12)
    assert running is not None
    again = Suggestions(space, searcher, 1, "min")
    for number, (point, value) in lived.items():
        again.recall(number, point, value)
    again.recall(12, running, ended=False)
    assert again.suggest(13) == search.suggest(13)
    for one in (search, again):
        one.tell(12, 0.5)
    assert again.suggest(14) == search.suggest(14)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31 - 1))
@pytest.mark.parametrize("searcher", SEARCHERS)
def test_suggestions_are_repeatable_inside_the_space_and_new(searcher: Searcher, seed: int) -> None:
    space = _space(FINITE if searcher == "grid" else ENDLESS)
    lived = _live(Suggestions(space, searcher, seed, "max"), range(20))
    assert lived == _live(Suggestions(space, searcher, seed, "max"), range(20))
    tried = [point for point, _ in lived.values()]
    assert all(points.holds(space, point) for point in tried)
    assert len({points.key(point) for point in tried}) == len(tried) == (18 if searcher == "grid" else 20)


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_every_point_of_a_finite_space_comes_once_and_then_none(searcher: Searcher) -> None:
    space = _space(FINITE)
    search = Suggestions(space, searcher, 3, "min")
    tried = [point for point, _ in _live(search, range(100)).values()]
    every = points.grid(space)
    assert points.size(space) == len(every) == len(tried) == 18
    assert {points.key(point) for point in tried} == {points.key(point) for point in every}
    assert search.suggest(100) is None


@pytest.mark.parametrize("searcher", ["tpe", "evolution"])
def test_they_learn_from_what_they_are_told(searcher: Searcher) -> None:
    def later(searcher: Searcher) -> float:
        """Mean of the second half of the trials, of four seeds."""
        lives = [_live(Suggestions(_space(ENDLESS), searcher, seed, "min"), range(40)) for seed in range(4)]
        return sum(_score(lived[number][0]) for lived in lives for number in range(20, 40)) / 80

    assert later(searcher) < 0.5 * later("random")


@pytest.mark.parametrize("searcher", ["tpe", "evolution"])
def test_results_of_a_narrower_space_with_a_hyperparameter_less_start_a_wider_one(
    searcher: Searcher,
) -> None:
    narrow = [*FINITE[:2], {"name": "rate", "kind": "log", "low": 1e-3, "high": 1.0}]
    lived = _live(Suggestions(_space(narrow), searcher, 0, "min"), range(15))
    wide = _space(ENDLESS)
    search = Suggestions(wide, searcher, 0, "min")
    for number, (point, value) in lived.items():
        search.recall(number, point, value)
    more = _live(search, range(15, 30))
    assert all(points.holds(wide, point) for point, _ in more.values())
    assert any("decay" in point or "deep" in point for point, _ in more.values())


def test_a_value_that_is_not_finite_counts_as_none() -> None:
    one, other = (Suggestions(_space(ENDLESS), "tpe", 0, "min") for _ in range(2))
    for number in range(12):
        assert one.suggest(number) == other.suggest(number)
        one.tell(number, math.nan)
        other.tell(number, None)
    assert one.suggest(12) == other.suggest(12)
