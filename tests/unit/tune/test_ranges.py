"""Ticks, conditions, and what a study cannot search or reach."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.train import algorithms
from tasks.tune import points, ranges
from tasks.tune.config import SearchDimension, TuneConfig


def _resolve(algorithm: str = "mlp", **about: Any) -> list[SearchDimension]:
    config = TuneConfig.model_validate({"algorithm": algorithm, **about})
    _, space = ranges.resolve(config, Problem.TABLE_CLASSIFICATION, 150)
    return space


def test_a_tick_takes_the_usual_range() -> None:
    usual = algorithms.get("mlp").usual_search["learning_rate"]
    (dimension,) = _resolve(search=[{"name": "learning_rate"}])
    assert dimension == SearchDimension.model_validate({"name": "learning_rate", **usual})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("optimizer", {"kind": "choice", "choices": ["adamw", "sgd"]}),
        ("compile", {"kind": "choice", "choices": [False, True]}),
        ("momentum", {"kind": "float", "low": 0, "high": 0.99}),
        ("warmup_percent", {"kind": "float", "low": 0, "high": 90}),
    ],
)
def test_a_tick_without_a_usual_range_goes_by_the_bounds(name: str, expected: dict[str, Any]) -> None:
    assert _resolve(search=[{"name": name}]) == [SearchDimension.model_validate({"name": name, **expected})]


def test_bounds_that_are_no_sensible_search_are_refused() -> None:
    with pytest.raises(InvalidSettings, match=r"no usual range of epochs.*low and high"):
        _resolve(search=[{"name": "epochs"}])
    with pytest.raises(InvalidSettings, match=r"'dropuot' is unknown.*did you mean 'dropout'"):
        _resolve(search=[{"name": "dropuot"}])
    with pytest.raises(ValidationError, match="needs a kind"):
        _resolve(search=[{"name": "dropout", "low": 0, "high": 1}])


@pytest.mark.parametrize("name", algorithms.names())
def test_every_tick_of_every_algorithm_is_searched_or_refused_in_words(name: str) -> None:
    algorithm = algorithms.get(name)
    refused = set()
    for field in algorithm.Hyperparameters.model_fields:
        config = TuneConfig(algorithm=name, search=[SearchDimension(name=field)])
        try:
            _, space = ranges.resolve(config, sorted(algorithm.problems)[0], 150)
        except InvalidSettings as error:
            refused.add((field, f"no usual range of {field}" in str(error)))
            continue
        for point in points.draw(space, 5, seed=0):
            algorithms.settings(algorithm, dict(point))
    assert all(in_words for _, in_words in refused)
    assert not {field for field, _ in refused} & set(algorithm.usual_search)


def test_a_name_of_another_system_is_not_searched_twice() -> None:
    assert _resolve(search=[{"name": "lr"}])[0].name == "learning_rate"
    with pytest.raises(InvalidSettings, match="lr stands for learning_rate, which is named already"):
        _resolve(search=[{"name": "learning_rate"}, {"name": "lr"}])
    with pytest.raises(InvalidSettings, match="lr stands for learning_rate, which is named already"):
        _resolve(search=[{"name": "lr"}], hyperparameters={"learning_rate": 0.1})


MOMENTUM = {"name": "momentum", "kind": "choice", "choices": [0.5, 0.9]}
WITH_SGD = {**MOMENTUM, "only_if": {"name": "optimizer", "values": ["sgd"]}}


def test_a_condition_leaves_out_what_makes_no_difference() -> None:
    space = _resolve(search=[{"name": "optimizer"}, WITH_SGD])
    assert points.size(space) == 3
    assert points.grid(space) == [
        {"optimizer": "adamw"},
        {"optimizer": "sgd", "momentum": 0.5},
        {"optimizer": "sgd", "momentum": 0.9},
    ]
    drawn = points.draw(space, 10, seed=1)
    assert {points.key(point) for point in drawn} == {points.key(point) for point in points.grid(space)}
    assert points.draw(space, 2, seed=1) == drawn[:2]


def test_conditions_of_conditions_are_counted_without_listing() -> None:
    names = [f"x{place}" for place in range(30)]
    space = [SearchDimension(name="x0", kind="int", low=1, high=3)] + [
        SearchDimension.model_validate(
            {"name": name, "kind": "int", "low": 1, "high": 3, "only_if": {"name": above, "values": [1, 2]}}
        )
        for above, name in itertools.pairwise(names)
    ]
    assert points.size(space[:3]) == len(points.grid(space[:3])) == 15
    assert points.size(space) == 2**31 - 1
    with pytest.raises(InvalidSettings, match="2,147,483,647 points"):
        points.grid(space)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ([WITH_SGD], "names optimizer, which is not searched"),
        ([WITH_SGD, {"name": "optimizer"}], "must stand before it"),
        (
            [
                {**MOMENTUM, "name": "a", "only_if": {"name": "b", "values": [0.5]}},
                {**MOMENTUM, "name": "b", "only_if": {"name": "a", "values": [0.5]}},
            ],
            "circle: a needs b needs a",
        ),
        ([{**MOMENTUM, "only_if": {"name": "momentum", "values": [0.5]}}], "circle: momentum needs momentum"),
        (
            [
                {"name": "optimizer", "kind": "choice", "choices": ["adamw"]},
                WITH_SGD,
            ],
            "optimizer never is 'sgd'",
        ),
        (
            [
                {"name": "dropout", "kind": "float", "low": 0, "high": 0.5},
                {**MOMENTUM, "only_if": {"name": "dropout", "values": [0.1]}},
            ],
            "dropout, which can take any value of a range",
        ),
    ],
)
def test_impossible_conditions_are_refused(search: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TuneConfig.model_validate({"search": search})


def test_a_condition_on_a_tick_is_checked_with_its_range() -> None:
    with pytest.raises(InvalidSettings, match="optimizer never is 'adam'"):
        _resolve(
            search=[{"name": "optimizer"}, {**WITH_SGD, "only_if": {"name": "optimizer", "values": ["adam"]}}]
        )


def test_a_grid_of_a_billion_points_is_refused_with_the_count_before_anything_starts() -> None:
    search = [
        {"name": name, "kind": "int", "low": 1, "high": 1000}
        for name in ("epochs", "batch_size_per_rank", "accumulation_steps")
    ]
    with pytest.raises(InvalidSettings, match="1,000,000,000 points"):
        _resolve(searcher="grid", search=search)
    with pytest.raises(InvalidSettings, match="learning_rate can take any value"):
        _resolve(searcher="grid", search=[{"name": "learning_rate"}])


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"goal": 1.5}, "No validation_accuracy can reach the goal 1.5"),
        ({"goal": -0.1}, "Any validation_accuracy reaches the goal -0.1"),
        ({"goal": -0.1, "metric": "validation_loss"}, "No validation_loss can reach the goal -0.1"),
        ({"metric": "validation_rmse"}, "report no validation_rmse.*validation_accuracy"),
        ({"metrics": ["f1"]}, "report no f1.*Where: metrics"),
        ({"mode": "min"}, "validation_accuracy is better the larger it is"),
    ],
)
def test_impossible_objectives_are_refused(about: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        _resolve(**about)


def test_possible_objectives_are_taken() -> None:
    _resolve(goal=1.0, mode="max", metrics=["validation_loss", "train_loss"])
    _resolve(goal=0.0, metric="validation_loss", mode="min")


def test_a_failure_budget_above_the_trials_is_refused_and_the_default_fits() -> None:
    with pytest.raises(ValidationError, match="max_failed is 5, and only 4 trials"):
        TuneConfig(max_trials=4, max_failed=5)
    config = TuneConfig(max_trials=2)
    assert config.max_failed == 2
    assert TuneConfig.model_validate(config.model_dump()) == config


def test_a_metric_is_named_once() -> None:
    with pytest.raises(ValidationError, match="named twice: validation_loss"):
        TuneConfig(metric="validation_loss", metrics=["validation_loss"])
