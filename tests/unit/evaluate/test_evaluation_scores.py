from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tasks.evaluate import scores as module
from tasks.evaluate.scores import (
    class_scores,
    classification_metrics,
    confusion_counts,
    headline,
    headline_interval,
    regression_metrics,
)
from tasks.refs import Problem


def test_classification_scores_of_a_known_case() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    predicted = np.array([0, 0, 1, 1, 0, 2, 2, 2])
    scores = (np.eye(4)[predicted] * 0.6 + 0.1).astype(np.float32)  # the fourth class has no rows
    found = classification_metrics(labels, scores)
    assert found == {
        "accuracy": pytest.approx(6 / 8),
        "precision": pytest.approx((2 / 3 + 1 / 2 + 1) / 3),
        "recall": pytest.approx((2 / 3 + 1 / 2 + 1) / 3),
        "f1": pytest.approx((2 / 3 + 1 / 2 + 1) / 3),
        "log_loss": pytest.approx(-(6 * np.log(0.7) + 2 * np.log(0.1)) / 8, rel=1e-6),
    }
    assert confusion_counts(labels, predicted, 4).tolist() == [
        [2, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 3, 0],
        [0, 0, 0, 0],
    ]
    rows = class_scores(labels, predicted, tuple("abcd"))
    assert [row.rows for row in rows] == [3, 2, 3, 0]
    assert rows[3].precision == rows[3].recall == rows[3].f1 == 0


def test_the_numbers_of_earlier_evaluations_stay_the_same() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 300)
    scores = random.dirichlet(np.ones(5), 300).astype(np.float32)
    assert classification_metrics(labels, scores) == pytest.approx(
        {
            "accuracy": 0.21,
            "precision": 0.20838608780341622,
            "recall": 0.17122106367630666,
            "f1": 0.18733254942794136,
            "log_loss": 2.0762639729768106,
        },
        rel=1e-12,
    )
    random = np.random.default_rng(0)
    values = random.normal(50, 10, 200)
    predicted = (values + random.normal(0, 3, 200)).astype(np.float32)
    assert regression_metrics(values, predicted) == pytest.approx(
        {"rmse": 3.0872949598201664, "mae": 2.448623248147428, "r2": 0.8968313329974875}, rel=1e-12
    )


def test_a_class_that_never_occurs_does_not_lower_the_means() -> None:
    labels = np.array([0, 1, 0, 1])
    scores = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0]] * 2, dtype=np.float32)
    found = classification_metrics(labels, scores)
    assert found["f1"] == found["precision"] == found["recall"] == found["accuracy"] == 1


def test_a_probability_of_nothing_costs_much_and_not_without_end() -> None:
    found = classification_metrics(np.array([0, 1]), np.array([[0, 1], [0, 1]], dtype=np.float32))
    assert found["log_loss"] == pytest.approx(-np.log(1e-15) / 2)


def test_values_that_do_not_vary_explain_nothing() -> None:
    assert regression_metrics(np.ones(3), np.ones(3, np.float32)) == {"rmse": 0, "mae": 0, "r2": 0}
    assert regression_metrics(np.ones(1), np.ones(1, np.float32))["r2"] == 0


def test_the_interval_holds_the_value_and_narrows_with_the_rows() -> None:
    random = np.random.default_rng(0)
    widths = []
    for rows in (100, 10_000):
        labels = random.integers(0, 2, rows)
        predicted = np.where(random.random(rows) < 0.9, labels, 1 - labels)
        low, high = headline_interval(Problem.TABLE_CLASSIFICATION, labels, predicted)
        assert low <= (labels == predicted).mean() <= high
        assert headline_interval(Problem.TABLE_CLASSIFICATION, labels, predicted) == (low, high)
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 10, rel=0.4)
    values = random.normal(size=500)
    low, high = headline_interval(Problem.TABLE_REGRESSION, values, values + 2)
    assert low == pytest.approx(2) == high


def test_each_problem_has_a_headline() -> None:
    assert headline(Problem.IMAGE_CLASSIFICATION) == ("accuracy", True)
    assert headline(Problem.TABLE_REGRESSION) == ("rmse", False)


@pytest.mark.parametrize("rows_at_once", [250, 999, 1_000])
def test_an_interval_is_the_same_however_many_rows_are_drawn_at_once(
    rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=1_000)
    predicted = values + random.normal(size=1_000)
    whole = headline_interval(Problem.TABLE_REGRESSION, values, predicted)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", rows_at_once)
    assert headline_interval(Problem.TABLE_REGRESSION, values, predicted) == pytest.approx(whole, rel=1e-12)


def test_the_interval_of_many_rows_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOOTSTRAP_SAMPLES", 50)
    values = np.zeros(1_000_000)
    tracemalloc.start()
    headline_interval(Problem.TABLE_REGRESSION, values, values)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 250e6  # 800 MB for 50 samples at once
