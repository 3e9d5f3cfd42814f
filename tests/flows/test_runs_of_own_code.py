"""MLflow runs that own code opens and closes belong to its training, and never say more than it does."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from prefect import tags
from prefect.settings import PREFECT_API_URL

from blocks.object_store import ObjectStore
from flows import removal
from flows.train import train_model
from infra.settings import Settings
from infra.stack.tracking import TrackingReaper
from tasks.errors import InvalidData, NotAllowed
from tasks.refs import RunRef
from tasks.removal.config import DeleteConfig, ExperimentConfig
from tasks.train.config import TrainConfig
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.opened import fitting, opened_runs
from tasks.train.tags import OWNER_TAG, PARENT_TAG, STATUS_TAG
from tasks.train.tracking import can_be_resumed
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.training_site import IRIS, SITE, row_of

SEVERAL = """
import os, mlflow
with mlflow.start_run():
    mlflow.log_metric("own", 1.0)
with mlflow.start_run(run_name="second"):
    mlflow.log_metrics({"final": 0.75, "own": 2.0}, step=3)
    with mlflow.start_run(run_name="third", nested=True):
        mlflow.log_metric("loss", float("nan"))
mlflow.start_run(run_name="left open")
open(os.environ["EM_MODEL_DIR"] + "/notes.txt", "w").write("a")
os._exit(0)
"""
ELSEWHERE = """
import os, mlflow
mlflow.set_experiment("elsewhere")
mlflow.start_run(run_name="of the script")
os._exit(3)
"""


def _train(home: Path, folder: Path, text: str, experiment: str) -> RunRef:
    ObjectStore(url=str(home / "store"), source_roots=[str(folder)]).save(SITE, overwrite=True)
    (folder / "train.py").write_text(text)
    own = OwnCode(source=str(folder), required_metrics=("final",))
    with tags("user:ada"):
        return train_model(IRIS, TrainConfig(own_code=own, experiment=experiment), site=SITE)


def _opened(mlflow: MlflowClient, run_id: str) -> dict[str, Run]:
    return {str(run.info.run_name): run for run in opened_runs(mlflow, run_id)}


def test_all_runs_of_the_code_go_with_its_training(home: Path, mlflow: MlflowClient, tmp_path: Path) -> None:
    run_id = _train(home, tmp_path, SEVERAL, "several").run_id
    recorded, opened = mlflow.get_run(run_id), _opened(mlflow, run_id)
    assert list(opened) == ["second", "third", "left open"]
    assert {run.info.status for run in (recorded, *opened.values())} == {"FINISHED"}
    assert {run.data.tags[OWNER_TAG] for run in opened.values()} == {"ada"}
    assert opened["second"].data.tags[PARENT_TAG] == run_id
    assert opened["third"].data.tags[PARENT_TAG] == opened["second"].info.run_id
    assert recorded.data.metrics["own"] == 1.0
    (final,) = mlflow.get_metric_history(run_id, "final")
    assert (final.step, final.value) == (3, 0.75)
    assert "loss" not in recorded.data.metrics

    below = {run.info.run_id for run in opened.values()}
    with tags("user:ada"):
        removal.delete_training(DeleteConfig(training=run_id), SITE)
        assert {mlflow.get_run(one).info.lifecycle_stage for one in below} == {"deleted"}
        assert set(removal.restore_training(run_id, SITE)) == {run_id, *below}
        removal.delete_training(DeleteConfig(training=run_id), SITE)
    stray = mlflow.create_run(recorded.info.experiment_id).info
    with pytest.raises(NotAllowed, match=f"runs of others.*{stray.run_id}.*MLflow's pages"):
        removal.delete_experiment(ExperimentConfig(name="several"), SITE)
    mlflow.delete_run(stray.run_id)
    removal.delete_experiment(ExperimentConfig(name="several"), SITE)


def test_what_is_left_open_is_closed_as_the_training_ended(
    home: Path, mlflow: MlflowClient, mlflow_server: MlflowProcess, tmp_path: Path
) -> None:
    with pytest.raises(InvalidData, match="exit code 3"):
        _train(home, tmp_path, ELSEWHERE, "own-elsewhere")
    experiment, other = (mlflow.get_experiment_by_name(name) for name in ("own-elsewhere", "elsewhere"))
    assert experiment is not None
    assert other is not None
    (training,) = mlflow.search_runs([experiment.experiment_id])
    run_id = training.info.run_id
    child = _opened(mlflow, run_id)["of the script"].info
    assert child.experiment_id == other.experiment_id
    assert (training.info.status, child.status) == ("FAILED", "FAILED")

    # As `kill -9` leaves what the code had closed itself, and what it had opened since.
    mlflow.set_tag(run_id, STATUS_TAG, "running")
    mlflow.set_terminated(run_id, "FINISHED")
    mlflow.update_run(child.run_id, status="RUNNING")
    assert row_of(run_id)["status"] == "failed"
    assert can_be_resumed(mlflow, run_id)
    ports = [urlsplit(url).port for url in (mlflow_server.uri, str(PREFECT_API_URL.value()))]
    reaper = TrackingReaper(Settings(mlflow_port=ports[0] or 0, prefect_port=ports[1] or 0))
    assert reaper.round() == []  # it may be just being taken up again
    assert {training.info.run_name, "of the script"} <= set(reaper.round())
    ended = [mlflow.get_run(one) for one in (run_id, child.run_id)]
    assert [(run.info.status, run.data.tags[STATUS_TAG]) for run in ended] == [("FAILED", "failed")] * 2


def test_code_that_names_its_experiment_is_not_told_another(tmp_path: Path) -> None:
    given = {"MLFLOW_TRACKING_URI": "u", "MLFLOW_RUN_ID": "r", "MLFLOW_EXPERIMENT_ID": "1"}
    (tmp_path / "train.py").write_text("mlflow.start_run()")
    assert fitting(given, tmp_path, {}) == given
    assert set(fitting(given, tmp_path, {"MLFLOW_EXPERIMENT_NAME": "x"})) == {"MLFLOW_TRACKING_URI"}
    cell = {"cell_type": "code", "source": ["mlflow.set_experiment('x')"]}
    (tmp_path / "train.ipynb").write_text(json.dumps({"cells": [cell]}))
    assert set(fitting(given, tmp_path, {})) == {"MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"}
