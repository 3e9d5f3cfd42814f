"""Deletion of trainings and experiments: what stands in its way, what is undone, what is gone for good."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect import tags
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateType
from prefect.states import Scheduled

from flows import drafts, removal, trainings
from tasks.errors import NotAllowed, NotFound
from tasks.launch.config import CopyConfig
from tasks.removal.config import DeleteConfig, ExperimentConfig
from tasks.serve.registry import Registry
from tasks.serve.versions import VersionStore
from tasks.train.tags import FLOW_RUN_TAG
from tasks.trainings.config import ListConfig
from tasks.trainings.status import DRAFT
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.training_site import SITE, row_of, trained


def test_a_training_in_use_is_not_deleted_and_the_mend_is_said(
    home: Path, mlflow: MlflowClient, prefect: SyncPrefectClient
) -> None:
    run = trained(seed=6)
    mlflow.create_registered_model("flowers")
    version = mlflow.create_model_version(
        "flowers", run.model_uri, run.run_id, model_id=run.model_uri.removeprefix("models:/")
    )
    mlflow.set_registered_model_alias("flowers", "champion", version.version)
    record = home / "endpoints" / "roses" / "endpoint.json"
    record.parent.mkdir(parents=True)
    place = {"host": "127.0.0.1", "port": 1, "url": "", "tracking_uri": "", "created_at": ""}
    secret = {"token_file": "", "token_sha256": ""}
    roses = {"name": "roses", "model": "flowers", "alias": "champion", **place, **secret}
    record.write_text(json.dumps(roses))
    assert row_of(run.run_id)["status"] == "published"
    with tags("user:ada"):
        with pytest.raises(
            NotAllowed, match=r"flowers v1 \(champion\), which the endpoints roses serve.*delete"
        ):
            removal.delete_training(DeleteConfig(training=run.run_id), SITE)
        tried = removal.delete_training(DeleteConfig(training=run.run_id, dry_run=True), SITE)
    assert tried[0].startswith(f"MLflow run {run.run_id}")
    assert any(line.startswith("in the way: it is the registered model flowers v1") for line in tried)
    with Registry(str(mlflow.tracking_uri)) as registry:  # as the endpoint's process does it
        versions = VersionStore(record.parent / "versions", "flowers")
        versions.place(registry.version_of("flowers", "champion"), registry)
        versions.mark_serving(1)
    mlflow.delete_model_version("flowers", "1")
    assert row_of(run.run_id)["status"] == "succeeded"
    with tags("user:ada"):
        with pytest.raises(NotAllowed, match=r"the endpoints roses answer with its model.*stop-endpoint"):
            removal.delete_training(DeleteConfig(training=run.run_id), SITE)
        record.write_text(json.dumps({**roses, "enabled": False}))  # what stopping it writes
        tried = removal.delete_training(DeleteConfig(training=run.run_id, dry_run=True), SITE)
    assert not any(line.startswith("in the way") for line in tried)

    tomorrow = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
    draft = State(type=StateType.PAUSED, name=DRAFT)
    for state, start in ((draft, run.run_id), (draft, run.model_uri), (tomorrow, run.model_uri)):
        onward = prefect.create_flow_run_from_deployment(
            prefect.read_deployment_by_name("train/step").id,
            parameters={"training": {"start_from": start}},
            state=state,
        )
        with tags("user:ada"), pytest.raises(NotAllowed, match=f"{onward.name} start from its weights"):
            removal.delete_training(DeleteConfig(training=run.run_id), SITE)
        prefect.delete_flow_run(onward.id)

    mlflow.update_run(run.run_id, status="RUNNING")
    with tags("user:ada"), pytest.raises(NotAllowed, match="still running"):
        removal.delete_training(DeleteConfig(training=run.run_id), SITE)
    mlflow.set_terminated(run.run_id)
    with pytest.raises(NotAllowed, match="its owner ada"):
        removal.delete_training(DeleteConfig(training=run.run_id), SITE)


def test_a_deletion_is_undone_and_one_for_good_is_not(
    home: Path, mlflow: MlflowClient, mlflow_server: MlflowProcess
) -> None:
    run = trained(seed=7, experiment="doomed")
    flow_run = mlflow.get_run(run.run_id).data.tags[FLOW_RUN_TAG]
    files = mlflow_server.folder / "artifacts"
    there = {path.parent for path in files.rglob("training.json") if run.run_id in str(path)}
    assert len(there) == 1
    with tags("user:ada"):
        assert removal.delete_training(DeleteConfig(training=flow_run), SITE) == [
            f"MLflow run {run.run_id} ({run.algorithm} on iris)"
        ]
        assert trainings.list_trainings(ListConfig(experiment="doomed"), SITE) == []
        with pytest.raises(NotFound, match="restore-training"):
            drafts.copy_training(CopyConfig(training=run.run_id), SITE)
        assert removal.restore_training(run.run_id, SITE) == [run.run_id]
        assert row_of(run.run_id)["status"] == "succeeded"
        with pytest.raises(NotAllowed, match="is not deleted"):
            removal.restore_training(run.run_id, SITE)

        folder = home / "work" / "train" / "left"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"run_id": run.run_id}))
        copy = home / "work" / "models" / run.model_uri.removeprefix("models:/")
        assert copy.is_dir()  # its evaluation has fetched it
        gone = removal.delete_training(DeleteConfig(training=run.run_id, for_good=True), SITE)
        model = run.model_uri.removeprefix("models:/")
        assert f"logged model {model} and its files" in gone
        assert any("artifact training-summary" in line for line in gone)
        with pytest.raises(NotAllowed, match="files are gone"):
            removal.restore_training(run.run_id, SITE)
    assert not any(path.exists() for path in there)
    assert [path for path in files.rglob("*") if model in str(path) and path.is_file()] == []
    assert not folder.exists()
    assert not copy.exists()
    assert trainings.list_trainings(ListConfig(experiment="doomed"), SITE) == []


def test_an_experiment_goes_when_it_is_empty_and_its_name_is_free(home: Path, mlflow: MlflowClient) -> None:
    run = trained(seed=8, experiment="short")
    with pytest.raises(NotAllowed, match=r"has 1 trainings.*delete-training"):
        removal.delete_experiment(ExperimentConfig(name="short"), SITE)
    with tags("user:ada"):
        removal.delete_training(DeleteConfig(training=run.run_id), SITE)
    assert removal.delete_experiment(ExperimentConfig(name="short", dry_run=True), SITE) == [
        "MLflow experiment short"
    ]
    removal.delete_experiment(ExperimentConfig(name="short"), SITE)
    with pytest.raises(NotFound, match="no experiment short"):
        removal.delete_experiment(ExperimentConfig(name="short"), SITE)
    taken = mlflow.create_experiment("short")
    with pytest.raises(NotAllowed, match="a new one took its name"):
        removal.restore_experiment("short", SITE)
    mlflow.rename_experiment(taken, "taken")
    with tags("user:ada"), pytest.raises(NotAllowed, match="restore-experiment"):
        removal.restore_training(run.run_id, SITE)
    restored = removal.restore_experiment("short", SITE)
    assert mlflow.get_experiment_by_name("short").experiment_id == restored
    assert mlflow.get_run(run.run_id).info.lifecycle_stage == "deleted"  # it was before
    with tags("user:ada"):
        assert removal.restore_training(run.run_id, SITE) == [run.run_id]
