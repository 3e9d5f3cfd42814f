"""What own code logs to MLflow itself is followed while it runs, as what it prints is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tasks.refs import DatasetRef
from tasks.train.algorithms.fit import FitContext, Metrics
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.following import Follower
from tasks.train.own_code.outcome import OwnCodeFailed
from tasks.train.own_code.own_code import OwnCodeFit

LOGS = """
import os, sys, time
from mlflow import MlflowClient

client, run = MlflowClient(), os.environ["MLFLOW_RUN_ID"]
client.log_metric(run, "f1", 0.5, step=3)
for wait in range(1200):
    if os.path.exists(sys.argv[2]):
        break
    time.sleep(0.05)
else:
    sys.exit("nobody heard of it")
client.log_metric(run, "loss", float("nan"), step=4)
time.sleep(60)
"""


def test_it_is_heard_while_the_code_runs(
    train: Callable[..., OwnCodeFit], measures: DatasetRef, script: Callable[..., OwnCode], tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    run_id = client.create_run(client.create_experiment("own")).info.run_id
    client.log_metric(run_id, "of_an_earlier_attempt", 1.0)
    shown: list[tuple[int, int, Metrics]] = []
    sent: list[Metrics] = []

    def report(step: int, steps: int, metrics: Metrics) -> None:
        shown.append((step, steps, metrics))
        (tmp_path / "heard").touch()

    with pytest.raises(OwnCodeFailed, match=r"^The metric loss is nan at step 4"):
        train(
            script(LOGS),
            measures,
            {"heard": str(tmp_path / "heard")},
            context=FitContext(report=report, report_steps=lambda step, metrics: sent.append(metrics)),
            mlflow={"MLFLOW_TRACKING_URI": uri, "MLFLOW_RUN_ID": run_id},
        )
    assert shown == [(3, 0, {"f1": 0.5})]
    assert not sent  # it is in MLflow already


def test_readings_have_one_course(tmp_path: Path) -> None:
    """Steps never go back; without any, readings count; what comes by another way is not shown twice."""
    points: list[list[tuple[str, int, float]]] = [
        [("f1", 0, 0.1)],
        [("f1", 0, 0.2)],
        [],
        [("f1", 0, 0.3), ("loss", 700, 1.0), ("accuracy", 1, 0.5)],
        [("accuracy", 2, 0.6)],
        [("printed", 9, 0.6)],
    ]
    shown: list[tuple[int, Metrics]] = []
    own = OwnCode(source="/code", metrics={"printed": {"pattern": "p (.+)", "sample_line": "p 1"}})
    follower = Follower(
        own,
        tmp_path,
        print,
        lambda step, metrics: None,
        lambda: points.pop(0),
        lambda step, metrics: shown.append((step, metrics)),
    )
    while points:
        follower(b"p 1\n")
    assert shown == [
        (1, {"f1": 0.1}),
        (2, {"f1": 0.2}),
        (700, {"f1": 0.3, "loss": 1.0, "accuracy": 0.5}),
        (700, {"accuracy": 0.6}),
    ]
