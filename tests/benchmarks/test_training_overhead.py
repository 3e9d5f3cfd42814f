"""What a training costs beside its loop: the flow around it, and the logging of it.

pytest -m benchmark tests/benchmarks/test_training_overhead.py -s
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef
from tasks.train import algorithms
from tasks.train.algorithms.fit import FitContext
from tasks.train.config import TrainConfig
from tasks.train.train import train
from tasks.train.training_data import read_training_data
from tests.helpers.local_stack import LocalStack
from tests.helpers.scenes import scenes, store_pictures
from tests.helpers.serving_stack import MlflowProcess

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

FLOW_LIMIT_S = 10.0
FLOW_RUNS = int(os.environ.get("TRAINYARD_BENCHMARK_ROUNDS", "3"))
LOGGING_LIMIT = 1.02
LOGGING_ROUNDS = int(os.environ.get("TRAINYARD_BENCHMARK_ROUNDS", "7"))
ROWS = int(6_000 * float(os.environ.get("TRAINYARD_BENCHMARK_SHARE", "1")))
EPOCHS = 5
TINY: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("digits", "six_layer_cnn", {"epochs": 2}),
    ("iris", "mlp", {"epochs": 5}),
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack with prepared datasets."""
    stack = LocalStack(tmp_path_factory.mktemp("stack") / "home")
    try:
        stack.up()
        for dataset, _, _ in TINY:
            done = stack.command("run", dataset, timeout_s=900)
            assert done.returncode == 0, done.stdout + done.stderr
        yield stack
    finally:
        stack.down()


@pytest.mark.parametrize(("dataset", "algorithm", "hyperparameters"), TINY)
def test_the_flow_around_the_loop(
    dataset: str, algorithm: str, hyperparameters: dict[str, int], stack: LocalStack
) -> None:
    """From the flow run's start in its process to its end, less the time of the fit."""
    client = MlflowClient(stack.mlflow_url)
    around, whole = [], []
    for seed in range(1, FLOW_RUNS + 1):
        training = {"algorithm": algorithm, "hyperparameters": hyperparameters, "seed": seed}
        training["experiment"] = f"overhead-{algorithm}-{seed}"
        flow_run = stack.create_run("train/step", dataset={"name": dataset}, training=training)
        assert stack.wait_final(flow_run)["type"] == "COMPLETED"
        took = float(stack.call("GET", f"/flow_runs/{flow_run}")["total_run_time"])
        experiment = client.get_experiment_by_name(training["experiment"])
        [run] = client.search_runs([experiment.experiment_id])
        whole.append(took)
        around.append(took - run.data.metrics["fit_time_s"])
    middle, low, high = statistics.median(around), min(around), max(around)
    print(f"\n| flow around a tiny {algorithm} | {middle:.1f} s | {low:.1f} to {high:.1f} s | 10 s |")
    print(f"\nwhole flow runs: {', '.join(f'{seconds:.1f}' for seconds in whole)} s")
    assert middle < FLOW_LIMIT_S


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    process = MlflowProcess(tmp_path_factory.mktemp("mlflow"))
    process.start()
    yield process.client()
    process.stop()


def test_logging(client: MlflowClient, tmp_path: Path) -> None:
    """The loop in the training step, with metrics every ten steps, against the same loop alone."""
    store = DatasetStore(str(tmp_path / "store"))
    splits = {"train": scenes(ROWS, 28), "validation": scenes(ROWS // 10, 28, first=ROWS)}
    ref = store_pictures(store, "logged", splits)
    hyperparameters = {"epochs": EPOCHS, "logging_steps": 10, "patience_epochs": EPOCHS}
    config = TrainConfig(algorithm="six_layer_cnn", hyperparameters=hyperparameters)
    ratios, rates = [], []
    for turn in range(LOGGING_ROUNDS + 1):
        logged_s = logged_fit_s(ref, config, store, client, tmp_path / f"logged-{turn}")
        alone_s = silent_fit_s(ref, config, store, tmp_path / f"silent-{turn}")
        if turn:  # the first round warms up
            ratios.append(logged_s / alone_s)
            rates.append(ROWS * EPOCHS / logged_s)
    middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
    print(
        f"\n| loop with MLflow logging, against without | {middle:.3f} × | {low:.3f} to {high:.3f} | 1.02 × |"
    )
    print(f"\n{np.median(rates):,.0f} images/s")
    assert middle <= LOGGING_LIMIT


def logged_fit_s(
    ref: DatasetRef, config: TrainConfig, store: DatasetStore, client: MlflowClient, folder: Path
) -> float:
    run = train(ref, config, store, client, folder)
    return float(client.get_run(run.run_id).data.metrics["fit_time_s"])


def silent_fit_s(ref: DatasetRef, config: TrainConfig, store: DatasetStore, folder: Path) -> float:
    """The same fit, checkpoints included, that nobody hears of."""
    algorithm, settings = config.resolve(ref.problem, ref.rows)
    settings = algorithms.settings(
        algorithm, {**settings.model_dump(exclude_unset=True), "logging_steps": None}
    )
    data = read_training_data(store, ref)
    return algorithm.fit(data, settings, FitContext(seed=config.seed, work_folder=folder)).fit_time_s
