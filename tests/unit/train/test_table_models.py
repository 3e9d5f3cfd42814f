"""Table models beyond what all algorithms share: weights, limits, importance, files tampered with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.errors import Damaged, InvalidData, InvalidSettings
from tasks.refs import Problem
from tasks.train import algorithms
from tasks.train.algorithms.fit import Fit, FitContext, Metrics, Rows, TrainingData
from tasks.train.models.scikit_learn import ScikitLearnModel, io


def _data(
    problem: Problem = Problem.TABLE_CLASSIFICATION, rows: int = 200, rare: float = 0.5
) -> TrainingData:
    """Two overlapping clouds along the second of three columns."""
    random = np.random.default_rng(0)
    labels = (random.random(rows) < rare).astype(np.int64)
    inputs = random.normal(size=(rows, 3))
    inputs[:, 1] += 1.5 * labels
    if problem.is_classification:
        return TrainingData(problem, Rows(inputs, labels), None, ("common", "rare"), ("a", "b", "c"))
    return TrainingData(problem, Rows(inputs, inputs[:, 1] * 100), None, (), ("a", "b", "c"))


def _fit(name: str, data: TrainingData, settings: dict[str, Any] | None = None, **context: Any) -> Fit:
    algorithm = algorithms.get(name, data.problem)
    return algorithm.fit(data, algorithms.settings(algorithm, settings or {}), FitContext(**context))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lightgbm", {"rounds": 20}),
        ("random_forest", {"trees": 20, "min_rows_in_leaf": 5}),
        ("extra_trees", {"trees": 20, "min_rows_in_leaf": 5}),
        ("logistic_regression", {}),
    ],
)
def test_balanced_weights_find_more_of_a_rare_class(name: str, settings: dict[str, Any]) -> None:
    data = _data(rows=1000, rare=0.08)
    found = {
        weights: int(
            (
                _fit(name, data, settings | {"class_weights": weights}).model.predict(data.train.inputs)[:, 1]
                > 0.5
            ).sum()
        )
        for weights in ("none", "balanced")
    }
    assert found["balanced"] > 2 * found["none"]


@pytest.mark.parametrize(
    "name", ["lightgbm", "random_forest", "extra_trees", "linear_regression", "lasso", "elastic_net"]
)
def test_importance_names_the_column_that_counts(name: str) -> None:
    model: Any = _fit(name, _data(Problem.TABLE_REGRESSION)).model
    importance = model.importance()
    assert importance.argmax() == 1
    assert importance.sum() == pytest.approx(1)
    knn: Any = _fit("k_nearest_neighbours", _data()).model
    assert knn.importance() is None


def test_lasso_leaves_columns_out() -> None:
    model: Any = _fit("lasso", _data(Problem.TABLE_REGRESSION), {"penalty": 0.2}).model
    assert (model.importance() > 0).tolist() == [False, True, False]


def test_a_forest_is_followed_and_can_be_stopped() -> None:
    heard: list[tuple[int, int, Metrics]] = []
    fit = _fit("random_forest", _data(), {"trees": 25}, report=lambda *told: heard.append(told))
    assert [epoch for epoch, _, _ in heard] == list(range(1, len(fit.history) + 1))
    assert len(heard) > 3
    stopped = _fit("random_forest", _data(), {"trees": 25}, should_stop=lambda: True)
    assert stopped.ended == "stopped"
    assert 0 < stopped.model.parameters < fit.model.parameters
    assert _fit("extra_trees", _data(), {"trees": 25}, max_time_s=1e-9).ended == "time limit"


def test_a_solver_out_of_steps_says_so() -> None:
    assert _fit("logistic_regression", _data(), {"max_iterations": 1}).ended == "iteration limit"
    assert _fit("logistic_regression", _data()).ended == "finished"


def test_what_cannot_be_fitted_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.train.algorithms import k_nearest_neighbours, support_vector_machine

    data = _data(rows=40)
    with pytest.raises(InvalidSettings, match=r"500 neighbours.*40 training rows.*1 to 40"):
        _fit("k_nearest_neighbours", data, {"neighbours": 500})
    lone = np.zeros(40, np.int64)
    lone[0] = 1
    with pytest.raises(InvalidData, match="Only one training row is of class rare"):
        _fit("support_vector_machine", replace(data, train=Rows(data.train.inputs, lone)))
    monkeypatch.setattr(support_vector_machine, "MOST_ROWS", 39)
    with pytest.raises(InvalidData, match=r"compares all rows.*at most 39 rows.*lightgbm"):
        _fit("support_vector_machine", data)
    monkeypatch.setattr(k_nearest_neighbours, "MOST_VALUES", 100)
    with pytest.raises(InvalidData, match=r"hold all 40 training rows.*120 values"):
        _fit("k_nearest_neighbours", data)


def _tree(model: Any) -> None:
    tree = model.estimator.estimators_[0].tree_
    tree.feature[0] = 99


def _neighbours(model: Any) -> None:
    model.estimator._y[3] = 1_000_000


def _narrow_neighbours(model: Any) -> None:
    model.estimator._fit_X = model.estimator._fit_X[:, :1]


def _few_neighbours(model: Any) -> None:
    model.estimator._fit_X = model.estimator._fit_X[:2]


def _counts(model: Any) -> None:
    model.estimator._n_support[0] += 1000


def _vectors(model: Any) -> None:
    model.estimator.support_vectors_ = model.estimator.support_vectors_[:1]


def _kernel(model: Any) -> None:
    model.estimator.kernel = "precomputed"


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("random_forest", _tree),
        ("k_nearest_neighbours", _neighbours),
        ("k_nearest_neighbours", _narrow_neighbours),
        ("k_nearest_neighbours", _few_neighbours),
        ("support_vector_machine", _counts),
        ("support_vector_machine", _vectors),
        ("support_vector_machine", _kernel),
    ],
)
def test_arrays_that_point_elsewhere_are_refused_before_compiled_code_reads_them(
    name: str, spoil: Any, tmp_path: Path
) -> None:
    model: Any = _fit(name, _data(rows=60), {"trees": 3} if name == "random_forest" else {}).model
    model.save(tmp_path / "model.skops")
    ScikitLearnModel.load(tmp_path / "model.skops", model.description())
    spoil(model)
    model.save(tmp_path / "model.skops")
    with pytest.raises(Damaged):
        ScikitLearnModel.load(tmp_path / "model.skops", model.description())


def test_search_trees_are_not_loaded_and_nesting_hides_nothing(tmp_path: Path) -> None:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    data = _data(rows=60)
    trees = KNeighborsClassifier(algorithm="kd_tree").fit(data.train.inputs, data.train.labels)
    io.dump(trees, tmp_path / "model.skops")
    with pytest.raises(Damaged, match=r"not trusted.*KDTree"):
        ScikitLearnModel.load(tmp_path / "model.skops", {"outputs": 2})
    nested = make_pipeline(StandardScaler(), SVC()).fit(data.train.inputs, data.train.labels)
    nested[-1]._n_support[0] += 1000
    io.dump(nested, tmp_path / "model.skops")
    with pytest.raises(Damaged, match="support vectors do not fit together"):
        ScikitLearnModel.load(tmp_path / "model.skops", {"outputs": 2})
