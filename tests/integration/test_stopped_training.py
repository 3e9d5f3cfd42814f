"""A training on the stack that is cancelled, or whose process is killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import mlflow.artifacts
import pytest
from mlflow import MlflowClient

from tasks.train.bundle import Bundle
from tasks.train.tags import ENDED_TAG, MODEL_URI_TAG, STATUS_TAG
from tasks.train.work_folder import CHECKPOINTS, RUN_FILE
from tests.helpers.local_stack import LocalStack, wait_until

LONG = {"algorithm": "mlp", "hyperparameters": {"epochs": 10_000, "patience_epochs": 10_000}}


@pytest.fixture(scope="module")
def flowers(stack: LocalStack) -> dict[str, str]:
    """A preprocessed dataset on the stack."""
    data = {"source": "sample:iris", "name": "flowers-to-stop", "problem": "table-classification"}
    for deployment, parameters in (
        ("ingest/step", {"data": data}),
        ("preprocess/step", {"dataset": {"name": "flowers-to-stop", "version": "latest-raw"}}),
    ):
        state = stack.wait_final(stack.create_run(deployment, **parameters), 300)
        assert state["type"] == "COMPLETED", f"{state['message']}{stack.tails()}"
    return {"name": "flowers-to-stop"}


def _started(stack: LocalStack, client: MlflowClient, experiment: str, **parameters: Any) -> tuple[str, str]:
    """Start a training; returns its flow run and MLflow run once it has trained some epochs."""
    run_id = stack.create_run("train/step", **parameters)

    def trained() -> str | None:
        found = client.get_experiment_by_name(experiment)
        runs = client.search_runs([found.experiment_id]) if found else []
        begun = [run for run in runs if run.data.metrics.get("train_loss") is not None]
        return begun[0].info.run_id if begun else None

    return run_id, wait_until(trained, 240)


def test_a_cancelled_training_keeps_its_best_model(
    stack: LocalStack, flowers: dict[str, str], tmp_path: Path
) -> None:
    client = MlflowClient(stack.mlflow_url)
    flow_run, run_id = _started(
        stack, client, "cancelled", dataset=flowers, training={**LONG, "experiment": "cancelled"}
    )
    body = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    stack.call("POST", f"/flow_runs/{flow_run}/set_state", body)
    state = stack.wait_final(flow_run, 120)
    assert (state["type"], state["name"]) == ("CANCELLED", "Cancelled")

    run = client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags[STATUS_TAG] == "aborted"
    assert run.data.tags[ENDED_TAG] == "stopped"
    assert run.data.metrics["best_validation_accuracy"] > 0.5
    left = [path.name for path in (stack.home / "work" / "train").iterdir() if path.is_dir()]
    assert left == []  # results of other trainings lie beside

    evaluation = stack.create_run("evaluate/step", run_id=run_id)
    assert stack.wait_final(evaluation, 240)["type"] == "COMPLETED"
    model = client.get_logged_model(run.data.tags[MODEL_URI_TAG].removeprefix("models:/"))
    folder = mlflow.artifacts.download_artifacts(
        artifact_uri=f"{model.artifact_location}/artifacts/bundle",
        dst_path=str(tmp_path),
        tracking_uri=stack.mlflow_url,
    )
    assert Bundle.load(folder).predict_table([[5.1, 3.5, 1.4, 0.2]]).shape == (1, 3)


def test_a_killed_training_is_taken_up_again_by_its_retry(stack: LocalStack, flowers: dict[str, str]) -> None:
    client = MlflowClient(stack.mlflow_url)
    # Its time counts over both attempts; it is killed at its first checkpoint, long before that is over.
    training = {
        "algorithm": "mlp",
        "hyperparameters": {"epochs": 10_000, "patience_epochs": 10_000},
        "experiment": "killed",
        "max_time_s": 10,
    }
    flow_run = stack.create_run("train/step", dataset=flowers, training=training)
    work = stack.home / "work" / "train"
    checkpoint = wait_until(lambda: next(work.glob(f"*/{CHECKPOINTS}/*"), None), 240, every_s=0.05)
    (pid,) = _processes_of(stack, flow_run)
    os.kill(pid, signal.SIGKILL)
    run_id = json.loads((checkpoint.parents[1] / RUN_FILE).read_text())["run_id"]
    assert stack.wait_final(flow_run, 120)["type"] == "CRASHED"

    again = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}

    def retried() -> bool:
        # Worker and caretaker both report the crash; the later report undoes a retry between the two.
        if stack.state(flow_run)["type"] == "CRASHED":
            stack.call("POST", f"/flow_runs/{flow_run}/set_state", again)
        return bool(stack.state(flow_run)["type"] == "COMPLETED")

    wait_until(retried, 300)
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags[STATUS_TAG]) == ("FINISHED", "succeeded")
    assert run.data.tags[ENDED_TAG] == "time limit"
    steps = {point.step for point in client.get_metric_history(run_id, "train_loss")}
    assert steps == set(range(1, int(run.data.metrics["epochs"]) + 1))


def _processes_of(stack: LocalStack, flow_run: str) -> list[int]:
    """The process that runs a flow: the worker names the run in its environment."""
    found = []
    for pid in stack.pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if flow_run.encode() in environment and b"prefect.engine" in command:
            found.append(pid)
    return found
