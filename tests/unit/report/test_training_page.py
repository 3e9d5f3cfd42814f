"""The page of a training says what is known of it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tasks.report import training
from tasks.train.tags import NOT_SERVED_TAG, WARNING_TAG


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.create_experiment("pages", artifact_location=str(tmp_path / "artifacts"))
    return client


def logged(client: MlflowClient, metrics: dict[str, list[float]], params: dict[str, str], reason: str) -> Run:
    experiment = client.get_experiment_by_name("pages")
    assert experiment is not None
    run_id = client.create_run(experiment.experiment_id).info.run_id
    for name, values in metrics.items():
        for step, value in enumerate(values, start=1):
            client.log_metric(run_id, name, value, step=step)
    for name, value in params.items():
        client.log_param(run_id, name, value)
    if reason:
        client.set_tag(run_id, NOT_SERVED_TAG, reason)
    return client.get_run(run_id)


def test_own_code_is_shown_by_what_it_told(client: MlflowClient) -> None:
    run = logged(
        client,
        {"loss": [0.9, 0.5, 0.3], "final_f1": [0.8], "system/cpu": [3, 4], "epochs": [1], "best_epoch": [1]},
        {"algorithm": "own_code", "dataset": "digits@1", "width": "3"},
        "notes.txt: no model that is known",
    )
    page = training.render(run, "http://127.0.0.1:5000/x")
    assert "## Metrics, as last told" in page
    assert "| loss | 0.3" in page
    assert "| final f1 | 0.8" in page
    assert "cannot be served:** notes.txt" in page
    assert "| width | 3 |" in page
    for unknown in ("rows", "epochs", "parameters", "kept model", "system"):
        assert f"| {unknown}" not in page
        assert f"## {unknown}" not in page
    assert training.curves(client, run) == {"loss": {"loss": [(1, 0.9), (2, 0.5), (3, 0.3)]}}
    assert training.kept_epoch(run.data.metrics) is None


def test_what_to_look_at_is_shown(client: MlflowClient) -> None:
    run = logged(client, {"loss": [0.3]}, {"algorithm": "own_code"}, "")
    assert "Look at this" not in training.render(run, "http://127.0.0.1:5000/x")
    client.set_tag(run.info.run_id, WARNING_TAG, "fed 8×8 pixels")
    page = training.render(client.get_run(run.info.run_id), "http://127.0.0.1:5000/x")
    assert "\n**Look at this:** fed 8×8 pixels.\n" in page


def test_a_built_in_is_shown_with_its_kept_epoch(client: MlflowClient) -> None:
    run = logged(
        client,
        {
            "train_loss": [0.9, 0.5],
            "best_train_loss": [0.5],
            "epochs": [2],
            "best_epoch": [2],
            "parameters": [7],
        },
        {"algorithm": "mlp", "dataset": "iris@1", "train_rows": "108"},
        "",
    )
    page = training.render(run, "http://127.0.0.1:5000/x")
    assert "## Scores of the kept model" in page
    assert "| train loss | 0.5" in page
    assert "108 to train on, 0 to validate" in page
    assert "2, kept 2" in page
    assert "cannot be served" not in page
    assert training.curves(client, run) == {"loss": {"train": [(1, 0.9), (2, 0.5)]}}
    assert training.kept_epoch(run.data.metrics) == 2
