"""Tuning and sweeping as steps of a flow: Ray starts and ends with the step, the trials are published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from sklearn.datasets import load_iris

from blocks.docs_site import DocsSite
from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from blocks.ray_cluster import RayCluster
from flows.removal import delete_training, restore_training
from flows.templates import delete_template, save_template
from flows.trainings import list_trainings
from tasks.data.config import PreprocessConfig
from tasks.data.preparation.preprocess import preprocess
from tasks.data.storage.store import DatasetStore
from tasks.errors import NotAllowed, NotFound
from tasks.home import home
from tasks.refs import DatasetRef, Problem, StudyRef
from tasks.removal.config import DeleteConfig
from tasks.report.task import report_study
from tasks.sweep.config import SweepConfig
from tasks.sweep.task import sweep_algorithms
from tasks.templates.config import TemplateConfig
from tasks.trainings.config import ListConfig
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
    DocsSite(folder=str(folder / "docs"), url="http://127.0.0.1:4300").save(SITE, overwrite=True)
    RayCluster(num_cpus=2).save(SITE, overwrite=True)
    loaded = load_iris(as_frame=True)
    frame = loaded.data.assign(label=loaded.target).sample(frac=1, random_state=0)
    classes = ("setosa", "versicolor", "virginica")
    store = DatasetStore(str(folder / "store"))
    raw = store_table(store, "iris", {"train": frame}, Problem.TABLE_CLASSIFICATION, classes)
    _deploy_training()
    yield preprocess(raw, PreprocessConfig(), store)
    mlflow.set_tracking_uri(before)
    patch.undo()


def _page(key: str) -> Any:
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return artifact.data


@pytest.fixture(scope="module")
def searched(iris: DatasetRef) -> tuple[StudyRef, StudyRef]:
    tuning = TuneConfig(algorithm="logistic_regression", searcher="random", scheduler="none", max_trials=3)
    sweeping = SweepConfig(algorithms=["logistic_regression", "random_forest"], trials_per_algorithm=2)
    return search(iris, tuning, sweeping)


def _deploy_training() -> None:
    """Where templates run."""
    with get_client(sync_client=True) as client:
        client.create_deployment(flow_id=client.create_flow_from_name("train"), name="step")


def test_trials_and_leaderboard_are_published(searched: tuple[StudyRef, StudyRef]) -> None:
    study, sweep = searched
    assert list((home() / "work" / "search").iterdir()) == []
    assert (study.trials, study.end_reason) == (3, "max trials reached")
    trials = _page("trials")
    assert trials.count("| succeeded |") == 3
    assert "max trials reached" in trials
    for key in ("study-history", "study-coordinates"):
        address = _page(key)
        assert address.startswith("http://127.0.0.1:4300/pictures/")
        assert "live-" not in address, "the picture of the ended study takes the place of the live one"
    board = _page("leaderboard")
    assert "random_forest" in board
    assert f"/runs/{sweep.best.run_id}" in board


def test_a_template_of_a_search_is_of_its_best_run(searched: tuple[StudyRef, StudyRef]) -> None:
    study, sweep = searched
    with pytest.raises(NotFound, match=r"is a search, no training.*take its best run"):
        save_template(TemplateConfig(training=study.run_id, name="searched"), SITE)
    of_study = save_template(TemplateConfig(training=study.best.run_id, name="of-study"), SITE)
    of_sweep = save_template(TemplateConfig(training=sweep.best.run_id, name="of-sweep"), SITE)
    chosen = MlflowClient().get_run(study.best.run_id).data.params
    with get_client(sync_client=True) as client:
        tuned = client.read_deployment_by_name(of_study).parameters["training"]
        swept = client.read_deployment_by_name(of_sweep).parameters["training"]
    assert (tuned["algorithm"], swept["algorithm"]) == ("logistic_regression", sweep.best.algorithm)
    assert tuned["hyperparameters"]
    assert {name: chosen[name] for name in tuned["hyperparameters"]} == {
        name: str(value) for name, value in tuned["hyperparameters"].items()
    }
    assert swept["max_time_s"] is None  # it had a share of the sweep's time; a template has no sweep
    with pytest.raises(
        NotAllowed, match=r"the templates of-study came from it or a run below it, or start from its weights"
    ):
        delete_training(DeleteConfig(training=study.run_id), SITE)
    delete_template("of-study")
    delete_template("of-sweep")


def test_a_search_goes_with_all_its_runs_and_comes_back(searched: tuple[StudyRef, StudyRef]) -> None:
    study, sweep = searched
    client = MlflowClient()
    experiment = client.get_run(study.run_id).info.experiment_id
    nested = f"tags.`mlflow.parentRunId` = '{study.run_id}'"
    trials = {run.info.run_id for run in client.search_runs([experiment], nested)}
    assert len(trials) == 3 + 1  # and the best, trained anew
    with pytest.raises(NotAllowed, match="it is the best of tune logistic_regression on iris: delete that"):
        delete_training(DeleteConfig(training=study.best.run_id), SITE)
    part = next(iter(trials - {study.best.run_id}))
    with pytest.raises(NotFound, match="is no training"):
        delete_training(DeleteConfig(training=part), SITE)

    gone = delete_training(DeleteConfig(training=study.run_id), SITE)
    assert {line.split()[2] for line in gone} == {study.run_id, *trials}
    left = {row["id"] for row in list_trainings(ListConfig(), SITE)}
    assert study.best.run_id not in left
    assert sweep.best.run_id in left
    assert set(restore_training(study.run_id, SITE)) == {study.run_id, *trials}

    files = Path(client.get_run(sweep.run_id).info.artifact_uri).parents[1]
    models = [
        output.model_id
        for run in client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{sweep.run_id}'")
        for output in run.outputs.model_outputs
    ]
    assert len(models) == 2 * 2  # of each algorithm two
    gone = delete_training(DeleteConfig(training=sweep.run_id, for_good=True), SITE)
    assert all(f"logged model {model} and its files" in gone for model in models)
    assert [path for path in files.rglob("*") if path.is_file() and any(m in str(path) for m in models)] == []
    with pytest.raises(NotAllowed, match="files are gone"):
        restore_training(sweep.run_id, SITE)
    left = {row["id"] for row in list_trainings(ListConfig(), SITE)}
    assert left & {study.best.run_id, sweep.best.run_id} == {study.best.run_id}
