"""The training and evaluation steps as a flow runs them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.artifacts import Artifact
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.errors import InvalidSettings, NotFound
from tasks.evaluate.task import evaluate_model, evaluate_version
from tasks.refs import DatasetRef, EvaluationRef, ModelVersionRef, RunRef
from tasks.train import start
from tasks.train.config import TrainConfig
from tasks.train.tags import FLOW_RUN_TAG, STATUS_TAG
from tasks.train.task import find_run, train_model, work_folder
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.trained import SITE


@flow
def train_and_evaluate(ref: DatasetRef, config: TrainConfig) -> tuple[RunRef, EvaluationRef]:
    run = train_model(ref, config, SITE)
    return run, evaluate_model(run, ref, site=SITE)


def test_a_flow_trains_and_evaluates_and_reuses_both(
    iris: DatasetRef, mlflow_server: MlflowProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = TrainConfig(algorithm="mlp", hyperparameters={"epochs": 3}, experiment="steps")
    with caplog.at_level(logging.INFO):
        run, evaluation = train_and_evaluate(iris, config)
    assert "Epoch 3 of 3: train loss" in caplog.text
    assert "test rows of" in caplog.text
    progress = Artifact.get("training-progress")
    assert progress is not None
    assert float(str(progress.data)) == 100
    tags = mlflow_server.client().get_run(run.run_id).data.tags
    assert tags["trainyard.flow_run_id"]
    left = [path.name for path in (tmp_path / "home" / "work" / "train").iterdir()]
    assert len(left) == 1
    assert left[0].endswith(".json")  # the result, for an equal training that waits

    assert train_and_evaluate(iris, config) == (run, evaluation)

    mlflow_server.client().delete_run(run.run_id)
    again, _ = train_and_evaluate(iris, config)
    assert again.run_id != run.run_id
    assert again.digest == run.digest


def test_an_equal_training_at_the_same_time_waits_and_takes_the_result(
    iris: DatasetRef, mlflow_server: MlflowProcess, caplog: pytest.LogCaptureFixture
) -> None:
    config = TrainConfig(algorithm="mlp", hyperparameters={"epochs": 20}, experiment="at-once")

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=3))
    def train_at_once() -> list[RunRef]:
        started = [train_model.submit(iris, config, SITE) for _ in range(3)]
        return [one.result() for one in started]

    with caplog.at_level(logging.INFO):
        runs = train_at_once()
    assert len({run.run_id for run in runs}) == 1
    assert caplog.text.count("this one waits for it") == 2
    assert caplog.text.count(f"its run {runs[0].run_id} is taken") == 2
    client = mlflow_server.client()
    experiment = client.get_experiment_by_name("at-once")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FINISHED"]
    steps = [point.step for point in client.get_metric_history(runs[0].run_id, "train_loss")]
    assert sorted(steps) == sorted(set(steps))


def test_weights_to_start_from_are_looked_up_once_a_training(
    iris: DatasetRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = TrainConfig(algorithm="mlp", hyperparameters={"epochs": 1}, experiment="starts")
    looked_up = []

    def find_start(given: str, *rest: Any, **named: Any) -> start.Start:
        looked_up.append(given)
        return found(given, *rest, **named)

    found = start.find_start
    monkeypatch.setattr(start, "find_start", find_start)

    @flow
    def twice() -> list[str]:
        first = train_model(iris, quick, SITE)
        train_model(iris, quick.model_copy(update={"start_from": first.run_id, "seed": 1}), SITE)
        train_model(iris, quick.model_copy(update={"start_from": first.run_id, "seed": 2}), SITE)
        return [first.run_id] * 2

    assert twice() == looked_up


def test_all_that_cannot_be_at_this_site_is_told_at_once(
    iris: DatasetRef, mlflow_server: MlflowProcess, tmp_path: Path
) -> None:
    config = TrainConfig(
        resources="cpu2",
        start_from="nothing-of-ours",
        hyperparameters={"inverse_penality": 1},
        checkpoint_folder="/elsewhere",
        experiment="refused",
    )

    @flow
    def refused() -> None:
        train_model(iris, config, SITE)

    with pytest.raises(InvalidSettings) as told:
        refused()
    for words in (
        "no preset 'cpu2'",
        "did you mean 'cpu-2'",
        "'nothing-of-ours' names no weights",
        "has no weights to start from",
        "'inverse_penality' is unknown (did you mean 'inverse_penalty'?)",
        "/elsewhere",
    ):
        assert words in str(told.value)
    assert mlflow_server.client().get_experiment_by_name("refused") is None
    assert not (tmp_path / "home" / "work" / "train").exists()


def test_a_run_that_a_caretaker_closed_is_opened_again(
    iris: DatasetRef, mlflow_server: MlflowProcess, caplog: pytest.LogCaptureFixture
) -> None:
    config = TrainConfig(algorithm="logistic_regression", experiment="resumed")
    client = mlflow_server.client()
    made = client.create_run(client.create_experiment("resumed"), tags={FLOW_RUN_TAG: "dead"})
    client.set_terminated(made.info.run_id, "FAILED")
    folder = work_folder(iris, config, SITE)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"run_id": made.info.run_id}))

    with caplog.at_level(logging.INFO):
        run, _ = train_and_evaluate(iris, config)
    assert f"left the MLflow run {made.info.run_id}; it is opened again" in caplog.text
    assert run.run_id == made.info.run_id
    found = client.get_run(run.run_id)
    assert (found.info.status, found.data.tags[STATUS_TAG]) == ("FINISHED", "succeeded")
    assert found.data.tags[FLOW_RUN_TAG] != "dead"


def test_runs_and_versions_are_found_by_their_names(iris: DatasetRef) -> None:
    @flow
    def look_up(ref: DatasetRef) -> tuple[RunRef, RunRef, EvaluationRef]:
        run = train_model(ref, TrainConfig(algorithm="logistic_regression"), SITE)
        version = ModelVersionRef(
            name="iris", version=1, run_id=run.run_id, model_uri=run.model_uri, digest=run.digest
        )
        return run, find_run(run.run_id, SITE), evaluate_version(version, ref, site=SITE)

    run, found, evaluation = look_up(iris)
    assert found == run
    assert evaluation.metrics["accuracy"] >= 0.93

    @flow
    def look_up_nothing() -> None:
        find_run("0" * 32, SITE)

    with pytest.raises(NotFound, match="no run"):
        look_up_nothing()
