"""Sweeps on a real local Ray: every algorithm an ordinary run, the budget kept, failures named."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import ray
from mlflow import MlflowClient
from mlflow.entities import Run
from pydantic import ValidationError
from sklearn.datasets import load_breast_cancer, load_iris

from blocks.ray_cluster import RayCluster
from tasks.data.config import PreprocessConfig
from tasks.data.preparation.preprocess import preprocess
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings, Unavailable
from tasks.evaluate.records import evaluate_and_record
from tasks.refs import DatasetRef, Problem
from tasks.report.leaderboard import leaderboard
from tasks.sweep.board import read_board
from tasks.sweep.characteristics import characteristics
from tasks.sweep.config import SweepConfig
from tasks.sweep.plan import Attempt, points_of
from tasks.sweep.race import end_all, within
from tasks.sweep.sweep import run_sweep
from tasks.train import algorithms
from tasks.train.bundle import Bundle
from tasks.train.config import TrainConfig
from tasks.train.mlflow_model import download_bundle
from tasks.train.train import find_run, train, verify_run
from tests.helpers.stored_datasets import store_table


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    with RayCluster().session():
        yield


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    client.create_experiment("default", artifact_location=str(tmp_path_factory.mktemp("artifacts")))
    yield client
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> DatasetStore:
    return DatasetStore(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def iris(store: DatasetStore) -> DatasetRef:
    loaded = load_iris(as_frame=True)
    frame = loaded.data.assign(label=loaded.target).sample(frac=1, random_state=0)
    frames = {"train": frame[:100], "validation": frame[100:125], "test": frame[125:]}
    return store_table(
        store, "iris", frames, Problem.TABLE_CLASSIFICATION, ("setosa", "versicolor", "virginica")
    )


def _runs(client: MlflowClient, sweep_id: str) -> list[Run]:
    experiment = client.get_run(sweep_id).info.experiment_id
    return list(client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{sweep_id}'"))


def test_all_algorithms_are_tried_and_the_best_wins(
    store: DatasetStore, client: MlflowClient, iris: DatasetRef, tmp_path: Path
) -> None:
    heard: list[int] = []
    config = SweepConfig(budget_s=120, trials_per_algorithm=1)
    sweep = run_sweep(iris, config, store, client, tmp_path, lambda done, total: heard.append(len(done)))
    every = algorithms.names(Problem.TABLE_CLASSIFICATION)
    assert (sweep.trials, sweep.end_reason) == (len(every), "all algorithms tried")
    assert heard[-1] == len(every)

    children = _runs(client, sweep.run_id)
    assert {run.data.tags["trainyard.algorithm"] for run in children} == set(every)
    scores = {run.info.run_id: run.data.metrics["best_validation_accuracy"] for run in children}
    assert scores[sweep.best.run_id] == max(scores.values())
    assert all("trainyard.reason" in run.data.tags for run in children)

    board = read_board(client, sweep.run_id)
    first = board.entries[0]
    assert (first.run_id, first.validation) == (sweep.best.run_id, max(scores.values()))
    for entry in board.entries:
        metrics = client.get_run(entry.run_id).data.metrics
        assert (entry.validation, entry.test) == (
            metrics["best_validation_accuracy"],
            metrics["test_accuracy"],
        )
        for value, interval in (
            (entry.validation, entry.validation_interval),
            (entry.test, entry.test_interval),
        ):
            assert value is not None
            assert interval is not None
            assert interval[0] <= value <= interval[1]
        assert entry.fit_time_s is not None
        assert entry.latency_p50_ms
        assert entry.size_bytes
    assert "http://mlflow/" in leaderboard(board, lambda run_id: f"http://mlflow/{run_id}")


def test_the_time_that_is_left_goes_to_the_searches_of_the_best(
    store: DatasetStore, client: MlflowClient, iris: DatasetRef, tmp_path: Path
) -> None:
    names = ["logistic_regression", "k_nearest_neighbours", "extra_trees"]
    config = SweepConfig(algorithms=names, budget_s=120, trials_per_algorithm=4, max_parallel=1, seed=5)
    sweep = run_sweep(iris, config, store, client, tmp_path)
    board = read_board(client, sweep.run_id).entries
    tried = Counter(entry.algorithm for entry in board)
    assert sweep.trials == sum(tried.values())
    assert max(tried.values()) == 4
    assert 4 + 2 + 1 <= sum(tried.values()) <= 3 * 4  # ranks change as points are tried
    assert tried[board[0].algorithm] >= 2
    for name in names:
        points = points_of([name], iris.problem, iris.rows, 4, 5)[name]
        given = [entry.hyperparameters for entry in board if entry.algorithm == name]
        assert all(point in [{}, *points[: len(given) - 1]] for point in given)
        assert {} in given
    run = client.get_run(board[0].run_id)
    assert {name: run.data.params[name] for name in board[0].hyperparameters} == {
        name: str(value) for name, value in board[0].hyperparameters.items()
    }


@pytest.fixture(scope="module")
def large(store: DatasetStore) -> DatasetRef:
    """Too large for most algorithms to be done in seconds."""
    chance = np.random.default_rng(0)
    frame = pd.DataFrame(chance.normal(size=(60_000, 30))).add_prefix("x")
    frame["label"] = chance.integers(0, 2, len(frame))
    frames = {"train": frame[:30_000], "validation": frame[30_000:]}
    return store_table(store, "large", frames, Problem.TABLE_CLASSIFICATION, ("a", "b"))


def test_a_sweep_ends_with_its_budget(
    store: DatasetStore, client: MlflowClient, large: DatasetRef, tmp_path: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(InvalidData, match="No algorithm was trained within 10 s"):
        run_sweep(
            large, SweepConfig(algorithms=["support_vector_machine"], budget_s=10), store, client, tmp_path
        )
    assert time.monotonic() - started < 10 * 1.05
    experiment = client.get_experiment_by_name("default").experiment_id
    assert not client.search_runs([experiment], "attributes.status = 'RUNNING'")


def test_slow_fits_and_slow_scoring_keep_the_budget(
    store: DatasetStore, client: MlflowClient, large: DatasetRef, tmp_path: Path
) -> None:
    """A fit of one call, one that answers slowly, and two that learn in steps."""
    names = ["support_vector_machine", "k_nearest_neighbours", "lightgbm", "mlp"]
    started = time.monotonic()
    sweep = run_sweep(large, SweepConfig(algorithms=names, budget_s=20), store, client, tmp_path)
    assert time.monotonic() - started < 20 * 1.05
    board = read_board(client, sweep.run_id).entries
    assert {entry.algorithm for entry in board} == set(names)
    missed = {entry.algorithm: entry.note for entry in board if entry.validation is None}
    assert "support_vector_machine" in missed
    assert all(f"{name}: {note}" in sweep.end_reason for name, note in missed.items())
    assert not [run for run in _runs(client, sweep.run_id) if run.info.status == "RUNNING"]
    assert find_run(client, sweep.best.run_id) == sweep.best


def test_a_model_that_was_recorded_counts_when_its_scoring_is_ended(
    store: DatasetStore, client: MlflowClient, iris: DatasetRef, tmp_path: Path
) -> None:
    attempts = [Attempt(1, "logistic_regression", "it is quick"), Attempt(2, "mlp", "it is not")]
    run = client.create_run(client.get_experiment_by_name("default").experiment_id)
    ref = train(
        iris, TrainConfig(algorithm="logistic_regression"), store, client, tmp_path,
        parent=run.info.run_id, tags={"trainyard.trial": "1"},
    )  # fmt: skip
    running = {_forever.remote(): (attempt, time.monotonic()) for attempt in attempts}
    entries = end_all(running, client, run.info.run_id, "validation_accuracy")
    assert [(entry.run, entry.error) for entry in entries] == [(ref, ""), (None, "out of time")]
    assert entries[0].score == client.get_run(ref.run_id).data.metrics["best_validation_accuracy"]


def _wait() -> None:
    threading.Event().wait()


_forever = ray.remote(num_cpus=1, max_retries=0)(_wait)


def test_data_that_takes_longer_to_read_than_the_budget_ends_the_sweep() -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable, match="time was up"):
        within(started + 2, _wait)
    assert time.monotonic() - started < 3


def test_an_ensemble_is_an_ordinary_training(
    store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    loaded = load_breast_cancer(as_frame=True)
    frame = loaded.data.assign(label=loaded.target).sample(frac=1, random_state=0)
    raw = store_table(store, "cancer", {"train": frame}, Problem.TABLE_CLASSIFICATION, ("bad", "good"))
    ref = preprocess(raw, PreprocessConfig(), store)
    names = ["logistic_regression", "lightgbm", "k_nearest_neighbours"]
    config = SweepConfig(algorithms=names, budget_s=120, trials_per_algorithm=1)
    sweep = run_sweep(ref, config, store, client, tmp_path / "work")
    board = read_board(client, sweep.run_id).entries
    assert {entry.algorithm for entry in board} == {*names, "ensemble"}
    (entry,) = [entry for entry in board if entry.algorithm == "ensemble"]
    assert entry.validation is not None
    assert entry.test_interval is not None
    assert entry.latency_p50_ms

    kept = tmp_path / "models"
    run = find_run(client, entry.run_id)
    verify_run(client, run)
    evaluation = evaluate_and_record(run.run_id, run.model_uri, ref, "test", store, client, kept)
    assert evaluation.metrics["accuracy"] == pytest.approx(entry.test)
    bundle = Bundle.load(download_bundle(client, run.model_uri, kept))
    members = bundle.description.hyperparameters["members"]
    assert set(members) <= {other.run_id for other in board}
    assert sum(members.values()) == pytest.approx(1, abs=1e-3)
    pyfunc = mlflow.pyfunc.load_model(run.model_uri)
    assert len(pyfunc.predict(loaded.data.head(3))) == 3


def test_what_cannot_be_is_refused_in_words(
    store: DatasetStore, client: MlflowClient, iris: DatasetRef, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSettings, match="cannot learn"):
        run_sweep(iris, SweepConfig(algorithms=["six_layer_cnn"]), store, client, tmp_path)
    whole = load_iris(as_frame=True)
    frame = whole.data.assign(label=whole.target)
    ref = store_table(store, "undivided", {"train": frame}, Problem.TABLE_CLASSIFICATION, ("a", "b", "c"))
    with pytest.raises(InvalidData, match="no validation split"):
        run_sweep(ref, SweepConfig(), store, client, tmp_path)
    with pytest.raises(ValidationError, match="named twice"):
        SweepConfig(algorithms=["mlp", "mlp"])


def test_characteristics_are_read_from_the_data(store: DatasetStore, iris: DatasetRef) -> None:
    found = characteristics(store, iris)
    assert (found.train_rows, found.columns, found.classes, found.categorical_share) == (100, 4, 3, 0.0)
    assert 0.8 < found.smallest_class_share <= 1
    assert found.missing_share == 0


def test_missing_values_are_counted_before_they_were_filled_in(store: DatasetStore) -> None:
    whole = load_iris(as_frame=True)
    frame = whole.data.assign(label=whole.target)
    frame.iloc[:75, 0] = np.nan
    raw = store_table(store, "gaps", {"train": frame}, Problem.TABLE_CLASSIFICATION, ("a", "b", "c"))
    found = characteristics(store, preprocess(raw, PreprocessConfig(), store))
    assert 0.1 < found.missing_share < 0.15  # half of one of four columns, of the training rows
