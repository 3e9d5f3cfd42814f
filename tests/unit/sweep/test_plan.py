"""What a sweep tries next: plain numbers, no Ray."""

from __future__ import annotations

from collections import Counter

from tasks.refs import Problem
from tasks.sweep.plan import next_search, points_of


def _play(ranked: list[str], limit: int) -> tuple[list[str], Counter[str]]:
    begun, played = Counter(ranked), []
    while (name := next_search(ranked, begun, limit)) is not None:
        begun[name] += 1
        played.append(name)
    return played, begun


def test_the_best_gets_most_and_each_half_of_the_one_before() -> None:
    played, begun = _play(["a", "b", "c", "d"], 8)
    assert begun == {"a": 8, "b": 4, "c": 2, "d": 1}
    assert played[:5] == ["a", "b", "c", "a", "b"]


def test_one_training_an_algorithm_is_its_defaults_alone() -> None:
    assert _play(["a", "b"], 1)[0] == []
    assert points_of(["lightgbm"], Problem.TABLE_CLASSIFICATION, 1000, 1, 0) == {}


def test_points_are_seeded_and_inside_the_usual_search() -> None:
    names = ["lightgbm", "logistic_regression"]
    some = points_of(names, Problem.TABLE_CLASSIFICATION, 1000, 6, 3)
    assert some == points_of(names, Problem.TABLE_CLASSIFICATION, 1000, 6, 3)
    assert some != points_of(names, Problem.TABLE_CLASSIFICATION, 1000, 6, 4)
    assert len(some["lightgbm"]) == 5
    assert all(0.01 <= float(point["learning_rate"]) <= 0.3 for point in some["lightgbm"])
