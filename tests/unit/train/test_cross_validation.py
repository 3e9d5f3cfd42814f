"""k-fold cross-validation of real trainings."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from sklearn.datasets import load_breast_cancer

from tasks.data.config import PreprocessConfig
from tasks.data.preparation.preprocess import preprocess
from tasks.data.storage.store import DatasetStore
from tasks.markdown import number
from tasks.refs import DatasetRef, Problem
from tasks.report import training
from tasks.train import algorithms
from tasks.train.algorithms.algorithm import AlgorithmSettings
from tasks.train.algorithms.fit import Fit, FitContext, Metrics, TrainingData
from tasks.train.config import TrainConfig
from tasks.train.cross_validation import cross_validate, place_of, recorded
from tasks.train.train import train
from tasks.train.training_data import folds_of, read_training_data
from tasks.trainings.config import ListConfig
from tasks.trainings.listing import chosen, joined
from tasks.trainings.records import read
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.stored_datasets import store_table

FOLDS = 4


@pytest.fixture(scope="module")
def divided(store: DatasetStore) -> DatasetRef:
    data = load_breast_cancer(as_frame=True)
    frame = (
        data.data.iloc[:, :6].rename(columns=lambda name: name.replace(" ", "_")).assign(label=data.target)
    )
    raw = store_table(
        store, "tumours", {"train": frame}, Problem.TABLE_CLASSIFICATION, ("malignant", "benign")
    )
    config = PreprocessConfig.model_validate({"steps": [], "split": {"folds": FOLDS}})
    return preprocess(raw, config, store)


def test_folds_are_scored_apart_and_the_model_learns_from_all_rows(
    divided: DatasetRef, store: DatasetStore, mlflow_process: MlflowProcess, tmp_path: Path
) -> None:
    assert folds_of(store, divided) == FOLDS
    client = mlflow_process.client()
    heard: list[tuple[int, int]] = []
    config = TrainConfig(algorithm="lightgbm", hyperparameters={"rounds": 40}, experiment="folds")
    run = train(
        divided, config, store, client, tmp_path, lambda epoch, epochs, _: heard.append((epoch, epochs))
    )

    found = client.get_run(run.run_id)
    assert found.data.params["folds"] == str(FOLDS)
    assert found.data.params["validation_rows"] == "0"
    whole = read_training_data(store, divided, fold=None)
    assert int(found.data.params["train_rows"]) == len(whole.train)
    points = client.get_metric_history(run.run_id, "fold_validation_accuracy")
    assert [point.step for point in points] == [1, 2, 3, 4]
    values = [point.value for point in points]
    metrics = found.data.metrics
    assert metrics["cv_validation_accuracy_mean"] == pytest.approx(statistics.fmean(values))
    assert metrics["cv_validation_accuracy_std"] == pytest.approx(statistics.stdev(values))
    assert metrics["cv_validation_accuracy_mean"] > 0.85
    _is_told_on_the_pages(client, run.run_id, values)
    rounds = [point.value for point in client.get_metric_history(run.run_id, "train_loss")]
    assert 1 <= len(rounds) <= 40
    assert [epoch / epochs for epoch, epochs in heard] == sorted(epoch / epochs for epoch, epochs in heard)


def _is_told_on_the_pages(client: MlflowClient, run_id: str, values: list[float]) -> None:
    run = client.get_run(run_id)
    mean = run.data.metrics["cv_validation_accuracy_mean"]
    deviation = run.data.metrics["cv_validation_accuracy_std"]
    folds = recorded(client, run)
    assert str(folds["accuracy"]).startswith(f"{mean:.4f} ± {deviation:.4f} (folds: {values[0]:.4f}, ")
    page = training.render(run, "http://127.0.0.1:5000/x", folds)
    each = " | ".join(number(value) for value in values)
    assert f"| accuracy | **{number(mean)}** | ± {number(deviation)} | {each} |" in page
    assert f"each validated once, in {FOLDS} folds" in page
    scores = training.best_scores(run.data.metrics, Problem.TABLE_CLASSIFICATION)
    assert scores["folds (mean)"]["accuracy"] == mean
    listed = joined([read(client, run_id)], {}, (), (), "http://127.0.0.1:5000", 0.0)
    assert listed[0].validation == mean
    worse = replace(listed[0], id="worse", validation=mean / 2, test=1.0)
    ranked = chosen([worse, *listed], ListConfig(sort="validation"))
    assert [one.id for one in ranked] == [run_id, "worse"]


@pytest.mark.parametrize(
    ("told", "epoch", "epochs", "line"),
    [
        ({}, 3, 9, "Epoch 3 of 9"),
        ({}, 1, 1, "Fitted"),
        ({"fit": 3, "fits": 6, "fit_epoch": 1}, 3, 6, "Fold 3 of 5"),
        ({"fit": 6, "fits": 6, "fit_epoch": 1}, 6, 6, "All rows"),
        ({"fit": 2, "fits": 6, "fit_epoch": 4}, 14, 60, "Fold 2 of 5, epoch 4 of 10"),
    ],
)
def test_fits_of_one_step_count_no_epochs(told: Metrics, epoch: int, epochs: int, line: str) -> None:
    assert place_of(told, epoch, epochs) == line


def test_a_finished_fold_is_not_fitted_again(
    divided: DatasetRef, store: DatasetStore, tmp_path: Path
) -> None:
    algorithm = algorithms.get("logistic_regression")
    settings = algorithms.settings(algorithm, {})
    read: list[int] = []

    def rows(fold: int) -> TrainingData:
        read.append(fold)
        return read_training_data(store, divided, fold)

    def dies_in_the_third(fold: int, metrics: Metrics) -> None:
        if fold == 3:
            raise KeyboardInterrupt

    context = FitContext(work_folder=tmp_path)
    tmp_path.mkdir(exist_ok=True)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(algorithm, settings, FOLDS, rows, context, dies_in_the_third)
    assert read == [0, 1, 2]
    again = cross_validate(algorithm, settings, FOLDS, rows, context, lambda *_: None)
    assert read == [0, 1, 2, 3]

    fresh = cross_validate(algorithm, settings, FOLDS, rows, FitContext(), lambda *_: None)
    assert fresh.metrics == again.metrics


def test_the_folds_are_those_of_scikit_learn_done_by_hand(divided: DatasetRef, store: DatasetStore) -> None:
    from sklearn.linear_model import LogisticRegression

    algorithm = algorithms.get("logistic_regression")
    settings = algorithms.settings(algorithm, {})
    ours = cross_validate(
        algorithm, settings, FOLDS, lambda fold: read_training_data(store, divided, fold), FitContext(),
        lambda *_: None,
    )  # fmt: skip
    for fold in range(FOLDS):
        data = read_training_data(store, divided, fold)
        assert data.validation is not None
        fit: Fit = algorithm.fit(data, settings, FitContext())
        plain = LogisticRegression(**fit.model.estimator.get_params()).fit(
            data.train.inputs, data.train.labels
        )
        accuracy = plain.score(data.validation.inputs, data.validation.labels)
        assert ours.metrics[fold]["validation_accuracy"] == pytest.approx(accuracy)
    labels = [read_training_data(store, divided, fold).validation.labels for fold in range(FOLDS)]
    whole = read_training_data(store, divided, fold=None).train.labels
    assert sorted(np.concatenate(labels)) == sorted(whole)


def test_stopped_in_a_fold_its_model_is_what_is_kept(
    divided: DatasetRef, store: DatasetStore, mlflow_process: MlflowProcess, tmp_path: Path
) -> None:
    asked = iter([False] * 30 + [True] * 10_000)
    config = TrainConfig(algorithm="lightgbm", hyperparameters={"rounds": 25}, experiment="folds")
    client = mlflow_process.client()
    run = train(divided, config, store, client, tmp_path, should_stop=lambda: next(asked))
    found = client.get_run(run.run_id)
    assert found.data.tags["trainyard.status"] == "aborted"
    assert "cv_validation_accuracy_mean" not in found.data.metrics
    assert found.data.metrics["best_validation_accuracy"] > 0.5


class Hasty:
    """Takes a known time for each fit, and remembers how long it might have taken."""

    def __init__(self, took_s: list[float]) -> None:
        self.took_s, self.allowed_s = iter(took_s), list[float | None]()

    def fit(self, data: object, settings: object, context: FitContext) -> Fit:
        self.allowed_s.append(context.max_time_s)
        return Fit(object(), ({"validation_accuracy": 1.0},), 1, "finished", next(self.took_s))


def test_time_that_a_fold_did_not_use_goes_to_the_fits_after_it(tmp_path: Path) -> None:
    no_rows: Any = lambda fold: None  # noqa: E731
    context = FitContext(max_time_s=100, work_folder=tmp_path)
    hasty: Any = Hasty([5, 35, 60, 1])
    scores = cross_validate(hasty, AlgorithmSettings(), 4, no_rows, context, lambda *_: None)
    assert hasty.allowed_s[:3] == [100 / 5, 95 / 4, 60 / 3]
    assert 0 < hasty.allowed_s[3] < 0.01  # the third took all that was left
    assert scores.fit_time_s == 101

    (tmp_path / "fold-4.json").unlink()  # taken up again by another process
    again: Any = Hasty([1])
    resumed = cross_validate(again, AlgorithmSettings(), 4, no_rows, context, lambda *_: None)
    assert (again.allowed_s, resumed.fit_time_s) == ([hasty.allowed_s[3]], 101)
    unlimited: Any = Hasty([1, 1, 1, 1])
    cross_validate(unlimited, AlgorithmSettings(), 4, no_rows, FitContext(), lambda *_: None)
    assert unlimited.allowed_s == [None] * 4
