"""A study whose driver is killed again and again has the trials and the best of one that was not."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tasks.data.storage.store import DatasetStore
from tasks.refs import StudyRef
from tasks.train.tags import BEST_TRIAL_TAG, KIND_TAG, POINT_TAG, TRIAL_TAG
from tasks.tune.recorded import unfinished_study
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.trained import iris_dataset

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
KILLS, TRIALS, SEED = 10, 30, 7
CONFIG = {
    "algorithm": "mlp",
    "hyperparameters": {"epochs": 40, "patience_epochs": 40},
    "searcher": "random",
    "scheduler": "none",
    "max_trials": TRIALS,
    "time_limit_s": 1800,
    "metric": "validation_loss",
}


class Driver:
    """Studies of one store and one MLflow, each in a process."""

    def __init__(self, mlflow: MlflowProcess, folder: Path) -> None:
        self.client, self._folder = mlflow.client(), folder
        store = DatasetStore(str(folder / "store"))
        self._order = {
            "tracking_uri": mlflow.uri, "store": store.url,
            "dataset": iris_dataset(store).model_dump(mode="json"),
        }  # fmt: skip

    def start(self, name: str, **changes: Any) -> subprocess.Popen[bytes]:
        order = {
            **self._order, "config": {**CONFIG, **changes}, "folder": str(self._folder / name),
            "outcome": str(self.outcome(name)),
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.helpers.study_driver", json.dumps(order)]
        return subprocess.Popen(command, cwd=ROOT)

    def outcome(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def ended(self, name: str) -> StudyRef:
        return StudyRef.model_validate_json(self.outcome(name).read_text())

    def trials(self, study: str) -> dict[int, Run]:
        return trials(self.client, study)


def trials(client: MlflowClient, study: str) -> dict[int, Run]:
    """The trials of a study, by number; each is there once."""
    experiment = client.get_run(study).info.experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{study}'", max_results=1000)
    runs = [run for run in found if KIND_TAG not in run.data.tags]
    by_number = {int(run.data.tags[TRIAL_TAG]): run for run in runs}
    assert len(by_number) == len(runs)
    return by_number


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Any:
    process = MlflowProcess(tmp_path_factory.mktemp("mlflow"))
    process.start()
    yield process
    process.stop()


def points(runs: dict[int, Run]) -> dict[int, Any]:
    return {number: json.loads(run.data.tags[POINT_TAG]) for number, run in runs.items()}


@pytest.mark.parametrize("folder_is_lost", [False, True], ids=["folder-kept", "folder-lost"])
def test_ten_kills_change_neither_the_trials_nor_the_best(
    mlflow: MlflowProcess, tmp_path: Path, folder_is_lost: bool
) -> None:
    driver, chance = Driver(mlflow, tmp_path), random.Random(SEED)
    assert driver.start("unbroken").wait(600) == 0
    unbroken = driver.ended("unbroken")

    kills = 0
    over: dict[str, int] = {}
    while not driver.outcome("killed").exists():
        process = driver.start("killed")
        wanted = len(over) + chance.randint(1, 4) if kills < KILLS else TRIALS + 1
        while process.poll() is None and len(now_over(driver.client, "killed")) < wanted:
            time.sleep(0.2)
        time.sleep(chance.uniform(0, 1))  # anywhere in a trial, or between two
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
        for run_id, ended in now_over(driver.client, "killed").items():
            over.setdefault(run_id, ended)
        print(f"kill {kills}: {len(over)} trials are over")
        if folder_is_lost:
            shutil.rmtree(tmp_path / "killed", ignore_errors=True)
    study = driver.ended("killed")
    runs, expected = driver.trials(study.run_id), driver.trials(unbroken.run_id)
    again = [run_id for run_id, ended in over.items() if driver.client.get_run(run_id).info.end_time != ended]
    print(
        f"{kills} kills, {len(runs)} trials, {len(over)} were over before some kill, {len(again)} run again"
    )
    assert kills >= KILLS / 2
    assert len(over) > TRIALS / 2
    assert again == []
    assert points(runs) == points(expected)
    assert (study.trials, study.end_reason) == (TRIALS, "max trials reached")
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    best = [driver.client.get_run(one.run_id).data for one in (study, unbroken)]
    assert best[0].tags[BEST_TRIAL_TAG] == best[1].tags[BEST_TRIAL_TAG]
    assert best[0].metrics["best_validation_loss"] == pytest.approx(
        best[1].metrics["best_validation_loss"], abs=1e-6
    )


def now_over(client: MlflowClient, flow_run: str) -> dict[str, int]:
    """When those trials of a study ended that are over, by their runs."""
    study = unfinished_study(client, "default", flow_run)
    runs = trials(client, study).values() if study else ()
    return {run.info.run_id: run.info.end_time for run in runs if run.info.status == "FINISHED"}
