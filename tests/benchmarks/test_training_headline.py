"""The headline task: a six-layer CNN, 150 x 150 pixels, six kinds of photographs, on two cores.

    pytest -m benchmark tests/benchmarks/test_training_headline.py -s

59 photographs become a model in under 60 s, and 14,034 are trained on for 10 epochs in under 20 minutes,
both by the training step as flows run it: from a prepared version in a store to a model in MLflow. The plain
PyTorch float32 loop beside it takes over an hour at full size, so a seventh of the rows are compared
unless TRAINYARD_BENCHMARK_FULL=1; the limit on time shrinks with them.
TRAINYARD_BENCHMARK_SHARE=0.1 takes a tenth of either.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef
from tasks.train.bundle import Bundle
from tasks.train.config import TrainConfig
from tasks.train.mlflow_model import download_bundle
from tasks.train.train import train
from tests.helpers.scenes import KINDS, scenes, store_pictures
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.training_sides import Order, outcome_of

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3 * 3600)]

SIDE_PX = 150
FEW, MANY, COMPARED = 59, 14_034, 2_000
EPOCHS = 10
FEW_LIMIT_S, MANY_LIMIT_S = 60.0, 20 * 60.0
TEST_ROWS = 3_000
EQUAL_ACCURACY = 0.02
"""About two standard errors of a difference at this many test rows, and of one seed against another."""

SHARE = float(os.environ.get("TRAINYARD_BENCHMARK_SHARE", "1"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    process = MlflowProcess(tmp_path_factory.mktemp("mlflow"))
    process.start()
    yield MlflowClient(process.uri)
    process.stop()


@pytest.fixture(scope="module")
def test_rows() -> tuple[np.ndarray, np.ndarray]:
    return scenes(max(60, int(TEST_ROWS * SHARE)), SIDE_PX, first=1_000_000)


def trained(
    store: DatasetStore, ref: DatasetRef, config: TrainConfig, client: MlflowClient, folder: Path
) -> tuple[Bundle, float]:
    """The model, and the seconds from the call of the step until it is in MLflow."""
    began = time.perf_counter()
    run = train(ref, config, store, client, folder / "work")
    took = time.perf_counter() - began
    return Bundle.load(download_bundle(client, run.model_uri, folder / "models")), took


def accuracy(bundle: Bundle, rows: tuple[np.ndarray, np.ndarray]) -> float:
    """Of the model itself: the rows have the prepared size."""
    return float((bundle.model.predict(rows[0]).argmax(axis=1) == rows[1]).mean())


def test_few_photographs(
    client: MlflowClient, test_rows: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    store = DatasetStore(str(tmp_path / "store"))
    splits = {"train": scenes(FEW, SIDE_PX), "validation": scenes(18, SIDE_PX, first=FEW)}
    ref = store_pictures(store, "few", splits)
    bundle, took = trained(store, ref, TrainConfig(algorithm="six_layer_cnn"), client, tmp_path)
    right = accuracy(bundle, test_rows)
    print(f"\n| {FEW} photographs, default settings | {took:.1f} s | accuracy {right:.3f} | 60 s |")
    assert took < FEW_LIMIT_S
    assert right > 1.5 / len(KINDS)


def test_many_photographs(
    client: MlflowClient, test_rows: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    count = int(SHARE * (MANY if os.environ.get("TRAINYARD_BENCHMARK_FULL") == "1" else COMPARED))
    train_rows = scenes(count, SIDE_PX)
    store = DatasetStore(str(tmp_path / "store"))
    ref = store_pictures(store, "many", {"train": train_rows})
    order = Order(
        arrays=str(tmp_path / "arrays.npz"),
        store=store.url,
        dataset=ref.model_dump_json(),
        classes=len(KINDS),
        algorithm="six_layer_cnn",
        hyperparameters={"shift_px": 0},
        epochs=EPOCHS,
        batch_size=64,
    )
    np.savez(
        order.arrays,
        train=train_rows[0],
        train_labels=train_rows[1],
        test=test_rows[0],
        test_labels=test_rows[1],
    )
    hyperparameters = {"epochs": EPOCHS, "batch_size_per_rank": order.batch_size, "shift_px": 0}
    config = TrainConfig(algorithm="six_layer_cnn", hyperparameters=hyperparameters)
    bundle, took = trained(store, ref, config, client, tmp_path)
    own = accuracy(bundle, test_rows)
    limit_s = MANY_LIMIT_S * count / MANY
    print(
        f"\n| {count:,} photographs, {EPOCHS} epochs | {took:.0f} s | accuracy {own:.3f} | {limit_s:.0f} s |"
    )
    plain = outcome_of("plain", order)
    print(f"\n| the same, plain PyTorch float32 | {plain.wall_s:.0f} s | accuracy {plain.accuracy:.3f} | – |")
    assert took < limit_s
    assert own >= plain.accuracy - EQUAL_ACCURACY
    assert 1.5 / len(KINDS) < own < 1
