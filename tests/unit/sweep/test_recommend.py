"""Recommendations follow the data's characteristics and say why."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.sweep.config import SweepConfig
from tasks.sweep.recommend import describe, recommend
from tasks.train import algorithms
from tasks.train.algorithms.suitability import Characteristics


def _data(**about: Any) -> Characteristics:
    given = {
        "problem": Problem.TABLE_CLASSIFICATION,
        "train_rows": 5_000,
        "columns": 20,
        "classes": 2,
        **about,
    }
    return Characteristics.model_validate(given)


def _order(data: Characteristics) -> list[str]:
    return [one.algorithm for one in recommend(data, algorithms.names(data.problem))]


def test_few_rows_favour_simple_models_and_many_favour_boosting() -> None:
    assert _order(_data(train_rows=105, columns=4))[0] == "logistic_regression"
    assert _order(_data(train_rows=50_000))[0] == "lightgbm"
    assert _order(_data(train_rows=300, columns=2_000))[0] == "logistic_regression"


@pytest.mark.parametrize("problem", list(Problem))
def test_the_ranking_is_complete_and_best_first(problem: Problem) -> None:
    names = algorithms.names(problem)
    side = 0 if problem.is_table else 28
    ranked = recommend(_data(problem=problem, image_side_px=side), names)
    assert sorted(one.algorithm for one in ranked) == sorted(names)
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)


def test_reasons_name_the_numbers() -> None:
    (boosting,) = recommend(_data(train_rows=321), ["lightgbm"])
    assert "321 rows are few" in boosting.reason
    (forest,) = recommend(_data(smallest_class_share=0.02), ["random_forest"])
    assert "rare classes" in forest.reason


def test_missing_values_favour_trees_and_are_said() -> None:
    whole, gaps = _data(), _data(missing_share=0.25)
    for name, direction in (("logistic_regression", -1), ("extra_trees", 1), ("lightgbm", 1)):
        (before,), (after,) = recommend(whole, [name]), recommend(gaps, [name])
        assert (after.score - before.score) * direction > 0
        assert "25% of the values were missing" in after.reason
        assert "missing" not in before.reason


def test_the_data_is_described_in_words() -> None:
    table = describe(_data(missing_share=0.021, categorical_share=0.5, smallest_class_share=0.04))
    for part in ("5,000 training rows", "20 columns", "50% of the raw columns are categories"):
        assert part in table
    assert "2.1% of the values are missing" in table
    assert "the rarest with 4% of the rows" in table
    pictures = _data(problem=Problem.IMAGE_CLASSIFICATION, image_side_px=28)
    assert "images of 28 px" in describe(pictures)


def test_the_form_offers_the_algorithms_and_others_are_refused() -> None:
    items = SweepConfig.model_json_schema()["properties"]["algorithms"]["items"]
    assert items["enum"] == algorithms.names()
    with pytest.raises(InvalidSettings, match="did you mean 'mlp'"):
        SweepConfig(algorithms=["mlpp"])
