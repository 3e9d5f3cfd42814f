"""Studies on a real local Ray: they end for the reason they say, and leave true records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient
from sklearn.datasets import load_iris

from blocks.ray_cluster import RayCluster
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings
from tasks.refs import DatasetRef, Problem, StudyRef
from tasks.train.tags import ERROR_TAG, STATUS_TAG
from tasks.tune.config import TuneConfig
from tasks.tune.study import run_study
from tests.helpers.stored_datasets import store_table


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    with RayCluster().session():
        yield


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    import mlflow

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


def _iris(store: DatasetStore, name: str = "iris") -> DatasetRef:
    loaded = load_iris(as_frame=True)
    frame: pd.DataFrame = loaded.data.assign(label=loaded.target).sample(frac=1, random_state=0)
    frames = {"train": frame[:100], "validation": frame[100:125], "test": frame[125:]}
    return store_table(
        store, name, frames, Problem.TABLE_CLASSIFICATION, ("setosa", "versicolor", "virginica")
    )


def _numbers(store: DatasetStore) -> DatasetRef:
    """The width of petals, from the other columns."""
    frame: pd.DataFrame = load_iris(as_frame=True).data.sample(frac=1, random_state=0)
    frame = frame.rename(columns={"petal width (cm)": "label"})
    frames = {"train": frame[:100], "validation": frame[100:]}
    return store_table(store, "numbers", frames, Problem.TABLE_REGRESSION, ())


def _study(
    store: DatasetStore, client: MlflowClient, folder: Path, ref: DatasetRef | None = None, **about: Any
) -> StudyRef:
    config = TuneConfig.model_validate({"scheduler": "none", "time_limit_s": 60, **about})
    return run_study(ref or _iris(store), config, store, client, folder)


def _trials(client: MlflowClient, study: StudyRef) -> list[Any]:
    experiment = client.get_run(study.run_id).info.experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{study.run_id}'")
    trials = [
        run for run in found if "trainyard.study" in run.data.tags and "trainyard.kind" not in run.data.tags
    ]
    return sorted(trials, key=lambda run: int(run.data.tags["trainyard.trial"]))


def test_ray_listens_on_loopback_only() -> None:
    ours = psutil.Process().children(recursive=True)
    listening = [
        socket.laddr.ip
        for process in ours
        for socket in process.net_connections(kind="inet")
        if socket.status == psutil.CONN_LISTEN
    ]
    assert listening, "Ray's processes are children of this one and listen somewhere"
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_a_grid_is_searched_in_full_and_the_best_is_an_ordinary_training(
    store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    search = [{"name": "inverse_penalty", "kind": "log", "low": 1e-5, "high": 10, "step": 1000}]
    study = _study(
        store, client, tmp_path, algorithm="logistic_regression", searcher="grid", search=search, max_trials=9
    )
    assert (study.trials, study.end_reason) == (3, "search space exhausted")

    trials = _trials(client, study)
    scores = [run.data.metrics["best_validation_accuracy"] for run in trials]
    assert [run.data.tags["trainyard.status"] for run in trials] == ["succeeded"] * 3
    assert {run.info.status for run in trials} == {"FINISHED"}
    assert [float(run.data.params["inverse_penalty"]) for run in trials] == pytest.approx([1e-5, 1e-2, 10])

    best = client.get_run(study.best.run_id)
    assert best.data.tags["mlflow.parentRunId"] == study.run_id
    assert best.data.metrics["best_validation_accuracy"] == max(scores) > min(scores)
    parent = client.get_run(study.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["trainyard.best_run"] == study.best.run_id
    assert study.best.model_uri.startswith("models:/m-")


def test_asha_stops_weak_trials_early(store: DatasetStore, client: MlflowClient, tmp_path: Path) -> None:
    search = [{"name": "learning_rate", "kind": "choice", "choices": [0.03, 1e-7, 2e-7, 3e-7, 4e-7, 5e-7]}]
    study = _study(
        store, client, tmp_path, algorithm="mlp", searcher="grid", search=search, scheduler="asha",
        grace_epochs=1, max_parallel=1, hyperparameters={"epochs": 8}, max_trials=6,
    )  # fmt: skip
    statuses = [run.data.tags["trainyard.status"] for run in _trials(client, study)]
    assert statuses[0] == "succeeded"
    assert "early stopped" in statuses
    assert client.get_run(study.best.run_id).data.params["learning_rate"] == "0.03"


def test_tpe_with_the_median_rule_ends_at_the_goal(
    store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    study = _study(
        store, client, tmp_path, algorithm="mlp", searcher="tpe", scheduler="median", goal=0.8,
        hyperparameters={"epochs": 20}, max_trials=40,
    )  # fmt: skip
    assert study.end_reason == "goal reached"
    assert study.trials < 40
    assert client.get_run(study.best.run_id).data.metrics["best_validation_accuracy"] >= 0.8
    assert all(run.info.status != "RUNNING" for run in _trials(client, study))


def test_a_study_of_failures_ends_and_says_what_the_first_one_was(
    store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    ref = _iris(store, "broken")
    (shard,) = Path(ref.url).glob("data/train-*")
    shard.unlink()
    with pytest.raises(InvalidData, match="too many failures") as caught:
        _study(store, client, tmp_path, ref, algorithm="mlp", max_failed=1, max_trials=20, max_parallel=1)
    assert "train-00000" in caught.value.where
    (run, *_) = client.search_runs(
        [client.get_experiment_by_name("default").experiment_id],
        "tags.`trainyard.end_reason` = 'too many failures'",
    )
    assert run.info.status == "FAILED"


def test_a_trial_that_diverges_is_no_failure_and_says_so(
    store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    search = [{"name": "learning_rate", "kind": "choice", "choices": [0.01, 10.0]}]
    study = _study(
        store, client, tmp_path, _numbers(store), algorithm="mlp", searcher="grid", search=search,
        hyperparameters={"epochs": 4, "optimizer": "sgd", "schedule": "constant", "warmup_percent": 0},
        metric="validation_loss", max_failed=0,
    )  # fmt: skip
    trained, diverged = (run.data.tags for run in _trials(client, study))
    assert (trained[STATUS_TAG], diverged[STATUS_TAG]) == ("succeeded", "metrics unavailable")
    assert diverged[ERROR_TAG] == "no validation_loss that is a finite number: it diverged"
    assert client.get_run(study.best.run_id).data.params["learning_rate"] == "0.01"


def test_what_cannot_be_is_refused_before_any_run(
    store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSettings, match=r"no validation_rmse.*validation_accuracy"):
        _study(store, client, tmp_path, metric="validation_rmse")
    with pytest.raises(InvalidSettings, match="64 CPU slots, and Ray has 2"):
        _study(store, client, tmp_path, max_parallel=64)
    with pytest.raises(InvalidSettings, match="cannot learn"):
        _study(store, client, tmp_path, algorithm="six_layer_cnn")
