"""Search spaces are checked in words, counted exactly, and drawn from repeatably."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.train import algorithms
from tasks.train.config import TrainConfig
from tasks.tune import points, ranges
from tasks.tune.config import SearchDimension, TuneConfig


def _dimension(**about: Any) -> SearchDimension:
    return SearchDimension.model_validate({"name": "x", **about})


@pytest.mark.parametrize(
    ("about", "word"),
    [
        ({"kind": "int", "low": 5, "high": 1}, "above high"),
        ({"kind": "log", "low": 0, "high": 1}, "starts above 0"),
        ({"kind": "float", "low": 0, "high": 1, "step": 0}, "step"),
        ({"kind": "log", "low": 1, "high": 8, "step": 1}, "step"),
        ({"kind": "int", "low": 0.5, "high": 2}, "whole"),
        ({"kind": "int", "low": 1}, "low and high"),
        ({"kind": "choice"}, "at least one"),
        ({"kind": "choice", "choices": [1, 1]}, "twice"),
        ({"kind": "choice", "choices": [1], "low": 0}, "no low"),
        ({"kind": "float", "low": 0, "high": 1, "choices": [1]}, "only the kind choice"),
        ({"kind": "float", "low": 0, "high": math.inf}, "finite"),
    ],
)
def test_impossible_dimensions_are_refused(about: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        _dimension(**about)


@pytest.mark.parametrize(
    ("about", "values"),
    [
        ({"kind": "int", "low": 1, "high": 6, "step": 2}, [1, 3, 5]),
        ({"kind": "float", "low": 0, "high": 0.3, "step": 0.1}, [0, 0.1, 0.2, 0.3]),
        ({"kind": "log", "low": 0.001, "high": 1, "step": 10}, [0.001, 0.01, 0.1, 1]),
        ({"kind": "choice", "choices": ["a", True, 1.5]}, ["a", True, 1.5]),
        ({"kind": "log", "low": 2, "high": 2}, [2]),
    ],
)
def test_values_of_a_dimension(about: dict[str, Any], values: list[object]) -> None:
    dimension = _dimension(**about)
    assert dimension.count == len(values)
    assert points.values(dimension) == pytest.approx(values)


def test_a_grid_is_every_point_once() -> None:
    space = [_dimension(kind="int", low=1, high=3), _dimension(name="y", kind="choice", choices=["a", "b"])]
    listed = points.grid(space)
    assert len(listed) == points.size(space) == 6
    assert listed[:2] == [{"x": 1, "y": "a"}, {"x": 1, "y": "b"}]


def test_endless_and_huge_grids_are_refused_with_the_reason() -> None:
    with pytest.raises(InvalidSettings, match="x can take any value"):
        points.grid([_dimension(kind="float", low=0, high=1)])
    huge = [_dimension(name=f"x{i}", kind="int", low=1, high=1000) for i in range(3)]
    with pytest.raises(InvalidSettings, match="1,000,000,000 points"):
        points.grid(huge)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 30))
def test_random_points_are_distinct_inside_and_repeatable(seed: int, count: int) -> None:
    space = [
        _dimension(kind="log", low=1e-4, high=1e-1),
        _dimension(name="n", kind="int", low=2, high=64, step=2),
        _dimension(name="c", kind="choice", choices=[1, 2]),
    ]
    drawn = points.draw(space, count, seed)
    assert drawn == points.draw(space, count, seed)
    assert points.draw(space, count + 5, seed)[:count] == drawn
    assert len({tuple(point.items()) for point in drawn}) == count
    assert all(1e-4 <= point["x"] <= 1e-1 and point["n"] in range(2, 65, 2) for point in drawn)


def test_a_small_space_is_drawn_in_full() -> None:
    space = [_dimension(kind="int", low=1, high=4)]
    assert sorted(point["x"] for point in points.draw(space, 10, seed=3)) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "about",
    [
        {"search": [{"name": "a", "kind": "choice", "choices": [1]}] * 2},
        {"search": [{"name": "a", "kind": "choice", "choices": [1]}], "hyperparameters": {"a": 2}},
        {"searcher": "magic"},
    ],
)
def test_impossible_studies_are_refused(about: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TuneConfig.model_validate(about)


@pytest.mark.parametrize("rows", [150, 100_000])
@pytest.mark.parametrize("problem", [problem for problem in Problem if algorithms.names(problem)])
def test_auto_is_the_same_algorithm_as_in_a_training(problem: Problem, rows: int) -> None:
    tuned, _ = ranges.resolve(TuneConfig(), problem, rows)
    trained, _ = TrainConfig().resolve(problem, rows)
    assert tuned == trained.name


def test_the_form_offers_the_algorithms_and_names_their_hyperparameters() -> None:
    fields = TuneConfig.model_json_schema()["properties"]
    assert fields["algorithm"]["enum"] == TrainConfig.model_json_schema()["properties"]["algorithm"]["enum"]
    assert "random_forest: trees, max_depth, min_rows_in_leaf" in fields["hyperparameters"]["description"]
    with pytest.raises(InvalidSettings, match="did you mean 'random_forest'"):
        TuneConfig(algorithm="random_forrest")


def test_ranges_beyond_the_algorithms_bounds_are_refused() -> None:
    def resolve(**about: Any) -> None:
        config = TuneConfig(algorithm="random_forest", search=[SearchDimension.model_validate(about)])
        ranges.resolve(config, Problem.TABLE_CLASSIFICATION, 150)

    with pytest.raises(InvalidSettings, match="trees"):
        resolve(name="trees", kind="int", low=0, high=10)
    with pytest.raises(InvalidSettings, match="'tree' is unknown"):
        resolve(name="tree", kind="int", low=1, high=10)
    with pytest.raises(InvalidSettings, match="trees"):
        resolve(name="trees", kind="choice", choices=[10, -1])
    with pytest.raises(InvalidSettings, match="nothing to search"):
        ranges.resolve(
            TuneConfig(algorithm="linear_regression", hyperparameters={"penalty": 1.0}),
            Problem.TABLE_REGRESSION,
            150,
        )
