"""On real data sets the table algorithms score as the plain estimators of their libraries do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from tasks.refs import Problem
from tasks.train import algorithms
from tasks.train.algorithms.fit import FitContext, Rows, TrainingData

CLASSES: dict[str, Callable[..., Any]] = {
    "iris": load_iris,
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "digits": load_digits,
}
Case = tuple[str, dict[str, Any], Any]
CLASSIFIERS: list[Case] = [
    ("logistic_regression", {"inverse_penalty": 1.0}, LogisticRegression(C=1.0, max_iter=1000)),
    (
        "logistic_regression",
        {"inverse_penalty": 0.5, "class_weights": "balanced"},
        LogisticRegression(C=0.5, max_iter=1000, class_weight="balanced"),
    ),
    ("k_nearest_neighbours", {}, KNeighborsClassifier()),
    (
        "k_nearest_neighbours",
        {"neighbours": 9, "weighting": "distance", "metric": "manhattan"},
        KNeighborsClassifier(9, weights="distance", metric="manhattan"),
    ),
    ("support_vector_machine", {}, SVC(break_ties=True)),
    (
        "support_vector_machine",
        {"kernel": "linear", "inverse_penalty": 0.1},
        SVC(kernel="linear", C=0.1, break_ties=True),
    ),
    ("random_forest", {"trees": 30}, RandomForestClassifier(30, random_state=0)),
    ("extra_trees", {"trees": 30}, ExtraTreesClassifier(30, random_state=0)),
]
REGRESSORS: list[Case] = [
    ("linear_regression", {}, Ridge(1.0)),
    ("linear_regression", {"penalty": 0.0}, LinearRegression()),
    ("lasso", {"penalty": 0.05}, TransformedTargetRegressor(Lasso(0.05), transformer=StandardScaler())),
    (
        "elastic_net",
        {"penalty": 0.05, "l1_share": 0.3},
        TransformedTargetRegressor(ElasticNet(0.05, l1_ratio=0.3), transformer=StandardScaler()),
    ),
    ("k_nearest_neighbours", {"neighbours": 7}, KNeighborsRegressor(7)),
    ("support_vector_machine", {}, TransformedTargetRegressor(SVR(), transformer=StandardScaler())),
    ("random_forest", {"trees": 30}, RandomForestRegressor(30, random_state=0)),
    ("extra_trees", {"trees": 30}, ExtraTreesRegressor(30, random_state=0)),
]


def _scaled(load: Callable[..., Any]) -> tuple[Any, ...]:
    x, y = (values[:700] for values in load(return_X_y=True))
    x, test_x, y, test_y = train_test_split(x, y, random_state=0)
    scaler = StandardScaler().fit(x)
    return scaler.transform(x), scaler.transform(test_x), y, test_y


def _fitted(name: str, settings: dict[str, Any], problem: Problem, x: Any, y: Any) -> Any:
    algorithm = algorithms.get(name, problem)
    classes = tuple(str(number) for number in range(y.max() + 1)) if problem.is_classification else ()
    data = TrainingData(problem, Rows(x, y), None, classes, tuple(str(n) for n in range(x.shape[1])))
    return algorithm.fit(data, algorithms.settings(algorithm, settings), FitContext(seed=0)).model


@pytest.mark.parametrize("dataset", CLASSES)
@pytest.mark.parametrize(("name", "settings", "plain"), CLASSIFIERS, ids=lambda value: str(value)[:40])
def test_classifiers(dataset: str, name: str, settings: dict[str, Any], plain: Any) -> None:
    x, test_x, y, test_y = _scaled(CLASSES[dataset])
    scores = _fitted(name, settings, Problem.TABLE_CLASSIFICATION, x, y).predict(test_x)
    expected = plain.fit(x, y)
    assert (scores.argmax(axis=1) == test_y).mean() == pytest.approx(expected.score(test_x, test_y), abs=0.01)
    if name == "support_vector_machine":  # gives no probabilities by itself
        np.testing.assert_array_equal(scores.argmax(axis=1), expected.predict(test_x))
        assert -np.log(scores[np.arange(len(test_y)), test_y]).mean() < 0.2
    else:
        np.testing.assert_allclose(scores, expected.predict_proba(test_x), atol=1e-5)


@pytest.mark.parametrize(("name", "settings", "plain"), REGRESSORS, ids=lambda value: str(value)[:40])
def test_regressors(name: str, settings: dict[str, Any], plain: Any) -> None:
    x, test_x, y, _ = _scaled(load_diabetes)
    values = _fitted(name, settings, Problem.TABLE_REGRESSION, x, y).predict(test_x)
    np.testing.assert_allclose(values, plain.fit(x, y).predict(test_x), rtol=1e-3)
