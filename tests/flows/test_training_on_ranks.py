"""Trainings on ranks through the train step: a network of the catalogue, and code of the user's own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow

from blocks.dask_cluster import DaskCluster
from tasks.errors import InvalidSettings, Unavailable
from tasks.evaluate.task import evaluate_model
from tasks.refs import DatasetRef, EvaluationRef, RunRef
from tasks.train.config import TrainConfig
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.outcome import OwnCodeFailed
from tasks.train.own_code.patterns import MetricPattern
from tasks.train.task import train_model
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.trained import SITE

ASSETS = Path(__file__).parents[1] / "assets" / "own_code"


@pytest.fixture(autouse=True)
def two_workers() -> Iterator[None]:
    DaskCluster(n_workers=2).save(SITE, overwrite=True)
    yield
    DaskCluster(n_workers=1).save(SITE, overwrite=True)


@flow
def train_and_evaluate(ref: DatasetRef, config: TrainConfig) -> tuple[RunRef, EvaluationRef]:
    run = train_model(ref, config, SITE)
    return run, evaluate_model(run, ref, site=SITE)


@pytest.mark.parametrize("launcher", ["torch", "horovod"])
def test_a_network_is_trained_on_two_ranks(
    iris: DatasetRef, mlflow_server: MlflowProcess, caplog: pytest.LogCaptureFixture, launcher: str
) -> None:
    config = TrainConfig(
        algorithm="mlp",
        hyperparameters={
            "epochs": 30,
            "batch_size_per_rank": 8,
            "learning_rate": 0.01,
            "patience_epochs": 30,
        },
        experiment="ranks",
        num_ranks=2,
        launcher=launcher,  # type: ignore[arg-type]
    )
    with caplog.at_level(logging.INFO):
        run, evaluation = train_and_evaluate(iris, config)
    assert "Epoch 30 of 30: train loss" in caplog.text
    assert evaluation.metrics["accuracy"] > 0.9
    recorded = mlflow_server.client().get_run(run.run_id)
    assert recorded.data.params["num_ranks"] == "2"
    assert recorded.data.params["launcher"] == launcher
    history = mlflow_server.client().get_metric_history(run.run_id, "train_loss")
    assert sorted({point.step for point in history}) == list(range(1, 31))  # rank 0 alone logs


def test_own_code_is_started_as_torchrun_starts_it(
    iris: DatasetRef, mlflow_server: MlflowProcess, tmp_path: Path
) -> None:
    own = OwnCode(
        source=str(ASSETS / "on_ranks"),
        entry_point="main.py",
        metrics={
            "loss": MetricPattern(
                pattern=r"rank 0 of 2: epoch (\d+) loss ([0-9.]+)",
                sample_line="rank 0 of 2: epoch 1 loss 0.5",
            )
        },
    )
    run, evaluation = train_and_evaluate(iris, TrainConfig(own_code=own, experiment="ranks", num_ranks=2))
    assert evaluation.metrics["accuracy"] > 0.8
    client = mlflow_server.client()
    logs = {one.path for one in client.list_artifacts(run.run_id, "own_code")}
    assert logs == {"own_code/output.log", "own_code/output-rank-1.log"}
    other = client.download_artifacts(run.run_id, "own_code/output-rank-1.log", str(tmp_path))
    assert "rank 1 of 2: epoch 5" in Path(other).read_text()
    assert len(client.get_metric_history(run.run_id, "loss")) >= 5


def test_own_code_that_fails_on_one_rank_says_on_which(
    iris: DatasetRef, mlflow_server: MlflowProcess
) -> None:
    own = OwnCode(source=str(ASSETS / "fails_on_one"), entry_point="main.py")
    with pytest.raises(OwnCodeFailed, match="the second half of the rows is empty") as told:
        train_and_evaluate(iris, TrainConfig(own_code=own, experiment="ranks", num_ranks=2))
    assert told.value.where.startswith("rank 1; ")
    assert told.value.mend.endswith("own_code/output-rank-1.log")


def test_what_cannot_be_is_refused_before_there_is_a_run(
    iris: DatasetRef, mlflow_server: MlflowProcess
) -> None:
    with pytest.raises(Unavailable, match=r"3 ranks are asked for, and there are 2 workers.*at most 2"):
        train_and_evaluate(iris, TrainConfig(algorithm="mlp", num_ranks=3, experiment="no-ranks"))
    with pytest.raises(InvalidSettings, match="is fitted by one process"):
        train_and_evaluate(iris, TrainConfig(algorithm="random_forest", num_ranks=2, experiment="no-ranks"))
    DaskCluster(address="tcp://127.0.0.1:9", connect_timeout_s=1).save(SITE, overwrite=True)
    with pytest.raises(Unavailable, match=r"[Nn]o Dask scheduler answers at tcp://127.0.0.1:9"):
        train_and_evaluate(iris, TrainConfig(algorithm="mlp", num_ranks=2, experiment="no-ranks"))
    assert mlflow_server.client().get_experiment_by_name("no-ranks") is None


def test_impossible_numbers_are_refused_in_the_form() -> None:
    with pytest.raises(InvalidSettings, match=r"3 ranks are to be enough"):
        TrainConfig(num_ranks=2, min_ranks=3)
    with pytest.raises(InvalidSettings, match="launcher"):
        TrainConfig(num_ranks=2, launcher="mpi")  # type: ignore[arg-type]
    with pytest.raises(InvalidSettings, match="Own code cannot go on with fewer ranks"):
        TrainConfig(num_ranks=2, min_ranks=1, own_code=OwnCode(source="/code"))
