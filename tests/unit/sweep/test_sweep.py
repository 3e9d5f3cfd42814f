"""Sweeps on a real local Ray: every algorithm an ordinary run, the budget kept, failures named."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from pydantic import ValidationError
from sklearn.datasets import load_iris

from blocks.ray_cluster import RayCluster
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings
from tasks.refs import DatasetRef, Problem
from tasks.report.leaderboard import entries, leaderboard
from tasks.sweep.config import SweepConfig
from tasks.sweep.sweep import characteristics, run_sweep
from tasks.train import algorithms
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


def test_all_algorithms_are_tried_and_the_best_wins(
    store: DatasetStore, client: MlflowClient, iris: DatasetRef, tmp_path: Path
) -> None:
    heard: list[int] = []
    sweep = run_sweep(
        iris, SweepConfig(budget_s=120), store, client, tmp_path, lambda done, total: heard.append(len(done))
    )
    every = algorithms.names(Problem.TABLE_CLASSIFICATION)
    assert (sweep.trials, sweep.end_reason) == (len(every), "all algorithms tried")
    assert heard[-1] == len(every)

    parent = client.get_run(sweep.run_id)
    nested = f"tags.`mlflow.parentRunId` = '{sweep.run_id}'"
    children = list(client.search_runs([parent.info.experiment_id], nested))
    assert {run.data.tags["trainyard.algorithm"] for run in children} == set(every)
    scores = {run.info.run_id: run.data.metrics["best_validation_accuracy"] for run in children}
    assert scores[sweep.best.run_id] == max(scores.values())
    assert all("trainyard.reason" in run.data.tags for run in children)

    board = entries(parent, children, lambda run_id: f"http://mlflow/{run_id}")
    assert board[0].score == max(scores.values())
    assert all(entry.latency_ms and entry.size_bytes and entry.fit_time_s is not None for entry in board)
    assert "http://mlflow/" in leaderboard(board, metric="validation accuracy")


def test_a_sweep_ends_with_its_budget(
    store: DatasetStore, client: MlflowClient, iris: DatasetRef, tmp_path: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(InvalidData, match="No algorithm was trained within 5 s"):
        run_sweep(iris, SweepConfig(algorithms=["mlp"], budget_s=5), store, client, tmp_path)
    assert time.monotonic() - started < 10
    experiment = client.get_experiment_by_name("default").experiment_id
    assert not client.search_runs([experiment], "attributes.status = 'RUNNING'")


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
