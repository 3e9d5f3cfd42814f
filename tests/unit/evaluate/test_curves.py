"""Curves, calibration and mistakes, held against scikit-learn and cases that can be counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from tasks.evaluate.calibration import calibration
from tasks.evaluate.curves import MACRO, MICRO, MOST_POINTS, WORST_SHOWN, class_curves
from tasks.evaluate.measures import measure
from tasks.evaluate.mistakes import MOST_MISTAKES, largest_errors, worst_classified
from tasks.refs import Problem


def _case(rows: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    raw = random.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[labels]
    scores = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    return labels, np.round(scores, 2).astype(np.float32)  # rounded, so that many scores are equal


def test_areas_and_curves_are_those_of_scikit_learn() -> None:
    labels, scores = _case(2000, 3)
    names = ("a", "b", "c")
    found, means = class_curves(labels, scores, names)
    by_name = {curves.name: curves for curves in found}
    assert list(by_name) == [*names, MACRO, MICRO]
    for index, name in enumerate(names):
        curves = by_name[name]
        assert curves.roc_auc == pytest.approx(roc_auc_score(labels == index, scores[:, index]))
        expected = average_precision_score(labels == index, scores[:, index])
        assert curves.average_precision == pytest.approx(expected)
        assert curves.rows == (labels == index).sum()
        # The thinned curve is the whole one, but for what lies between its points.
        thinned = np.trapezoid(curves.true_positive_rate, curves.false_positive_rate)
        assert thinned == pytest.approx(curves.roc_auc, abs=0.003)
        assert len(curves.recall) <= MOST_POINTS + 2
        assert curves.recall[-1] == 1
    one_hot = np.eye(3)[labels].ravel()
    assert by_name[MICRO].roc_auc == pytest.approx(roc_auc_score(one_hot, scores.ravel()))
    assert means["roc_auc"] == pytest.approx(np.mean([by_name[name].roc_auc for name in names]))


def test_of_many_classes_the_worst_are_shown() -> None:
    labels, scores = _case(3000, 40)
    scores[:, 7] = np.random.default_rng(1).random(3000)  # knows nothing of this class
    names = tuple(f"class {index}" for index in range(40))
    found, means = class_curves(labels, scores, names)
    assert len(found) == WORST_SHOWN + 2
    assert found[0].name == "class 7"
    assert means["roc_auc"] > found[0].roc_auc
    assert len(json.dumps([curves.model_dump() for curves in found])) < 60_000


def test_classes_without_rows_have_no_curve() -> None:
    scores = np.full((4, 3), 1 / 3, np.float32)
    found, means = class_curves(np.array([0, 0, 1, 1]), scores, ("a", "b", "c"))
    assert [curves.name for curves in found if not curves.average] == ["a", "b"]
    assert means == {"roc_auc": pytest.approx(0.5), "average_precision": pytest.approx(0.5)}
    assert class_curves(np.zeros(4, np.int64), scores, ("a", "b", "c")) == ([], {})


def test_confidence_is_held_against_accuracy() -> None:
    scores = np.array([[0.95, 0.05]] * 10 + [[0.45, 0.55]] * 10, np.float32)
    labels = np.array([0] * 9 + [1] + [1] * 2 + [0] * 8)
    found = calibration(labels, scores)
    assert found.rows == [0, 0, 0, 0, 0, 10, 0, 0, 0, 10]
    assert found.accuracy[9] == pytest.approx(0.9)
    assert found.accuracy[5] == pytest.approx(0.2)
    assert found.error == pytest.approx((0.05 + 0.35) / 2, abs=1e-6)
    sure = calibration(np.array([0, 1]), np.eye(2, dtype=np.float32))
    assert sure.error == 0
    assert sure.rows[9] == 2


def test_the_surest_mistakes_come_first() -> None:
    labels, scores = _case(500, 3)
    predicted = scores.argmax(axis=1)
    ids = [f"row {row}" for row in range(500)]
    found = worst_classified(ids, labels, predicted, scores, ("a", "b", "c"))
    assert len(found) == MOST_MISTAKES
    assert [mistake.score for mistake in found] == sorted((mistake.score for mistake in found), reverse=True)
    wrong = predicted != labels
    assert found[0].score == pytest.approx(scores[wrong].max())
    row = int(found[0].id.removeprefix("row "))
    assert (found[0].true, found[0].predicted) == ("abc"[labels[row]], "abc"[predicted[row]])
    assert worst_classified(ids, predicted, predicted, scores, ("a", "b", "c")) == []


def test_the_largest_errors_come_first() -> None:
    values = np.arange(5.0)
    found = largest_errors(list("abcde"), values, values + np.array([0, -3.0, 0, 1.0, 0]))
    assert [(error.id, error.score) for error in found] == [("b", 3.0), ("d", 1.0)]


def test_each_kind_of_problem_is_measured_whole() -> None:
    labels, scores = _case(300, 4)
    found = measure(Problem.IMAGE_CLASSIFICATION, labels, scores, [str(i) for i in range(300)], "abcd")
    assert {"accuracy", "roc_auc", "average_precision", "calibration_error"} <= set(found.metrics)
    assert all(0 <= value <= 3 for value in found.metrics.values())
    values = np.linspace(0, 1, 9000)
    regression = measure(
        Problem.TABLE_REGRESSION, values, values.astype(np.float32), [str(i) for i in range(9000)], ()
    )
    assert len(regression.details["true_values"]) == 2000
    assert regression.metrics["rmse"] == pytest.approx(0, abs=1e-6)
