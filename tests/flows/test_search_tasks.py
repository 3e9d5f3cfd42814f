"""Tuning and sweeping as steps of a flow: Ray starts and ends with the step, the trials are published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from sklearn.datasets import load_iris

from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from blocks.ray_cluster import RayCluster
from tasks.data.storage.store import DatasetStore
from tasks.home import home
from tasks.refs import DatasetRef, Problem, StudyRef
from tasks.report.task import report_study
from tasks.sweep.config import SweepConfig
from tasks.sweep.task import sweep_algorithms
from tasks.tune.config import TuneConfig
from tasks.tune.task import tune_model
from tests.helpers.stored_datasets import store_table

SITE = "search-suite"


@flow
def search(ref: DatasetRef, tuning: TuneConfig, sweeping: SweepConfig) -> tuple[StudyRef, StudyRef]:
    study = tune_model(ref, tuning, SITE)
    report_study(study, SITE)
    sweep = sweep_algorithms(ref, sweeping, SITE)
    report_study(sweep, SITE)
    return study, sweep


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatasetRef]:
    folder = tmp_path_factory.mktemp("search")
    patch = pytest.MonkeyPatch()
    patch.setenv("TRAINYARD_HOME", str(folder / "home"))
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    MlflowClient(uri).create_experiment("default", artifact_location=str(folder / "artifacts"))
    MlflowServer(tracking_uri=uri).save(SITE, overwrite=True)
    ObjectStore(url=str(folder / "store")).save(SITE, overwrite=True)
    RayCluster(num_cpus=2).save(SITE, overwrite=True)
    loaded = load_iris(as_frame=True)
    frame = loaded.data.assign(label=loaded.target).sample(frac=1, random_state=0)
    frames = {"train": frame[:100], "validation": frame[100:125], "test": frame[125:]}
    classes = ("setosa", "versicolor", "virginica")
    yield store_table(
        DatasetStore(str(folder / "store")), "iris", frames, Problem.TABLE_CLASSIFICATION, classes
    )
    mlflow.set_tracking_uri(before)
    patch.undo()


def _page(key: str) -> Any:
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return artifact.data


def test_trials_and_leaderboard_are_published(iris: DatasetRef) -> None:
    tuning = TuneConfig(algorithm="logistic_regression", searcher="random", scheduler="none", max_trials=3)
    sweeping = SweepConfig(algorithms=["logistic_regression", "random_forest"])
    study, sweep = search(iris, tuning, sweeping)

    assert list((home() / "work" / "search").iterdir()) == []
    assert (study.trials, study.end_reason) == (3, "max trials reached")
    trials = _page("trials")
    assert trials.count("| succeeded |") == 3
    assert "max trials reached" in trials
    board = _page("leaderboard")
    assert "random_forest" in board
    assert f"/runs/{sweep.best.run_id}" in board
