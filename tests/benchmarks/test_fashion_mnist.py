"""Accuracy against minutes on Fashion-MNIST, by the training step on two cores.

    pytest -m benchmark tests/benchmarks/test_fashion_mnist.py -s

The recipe was chosen on validation rows alone. The test rows are looked at after each epoch for the curve,
which nothing is decided by, and the clock stands still meanwhile; the figure is that of the model which the
step keeps, the one with the lowest validation loss.

TRAINYARD_BENCHMARK_FOLDER=docs writes the curve there (fashion-mnist-curve.json and .svg). For a trial,
TRAINYARD_FASHION_MNIST='{"epochs": 1}' changes the recipe, and TRAINYARD_BENCHMARK_SHARE=0.1 takes a tenth of
the rows.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from safetensors.torch import load_file

from tasks.data.sources.samples import FASHION_MNIST_CLASSES, FASHION_MNIST_FOLDER
from tasks.data.storage.store import DatasetStore
from tasks.report import style
from tasks.train.algorithms.fit import Metrics, TrainingData
from tasks.train.algorithms.network_algorithm import NetworkAlgorithm
from tasks.train.bundle import Bundle
from tasks.train.config import TrainConfig
from tasks.train.mlflow_model import download_bundle
from tasks.train.models.network import NetworkModel
from tasks.train.train import train
from tasks.train.training_data import read_training_data
from tests.helpers.scenes import store_pictures
from tests.helpers.serving_stack import MlflowProcess

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not FASHION_MNIST_FOLDER.exists(), reason="needs Debian's dataset-fashion-mnist"),
]

ALGORITHM = "small_resnet"
RECIPE: dict[str, Any] = {
    "epochs": 30,
    "batch_size_per_rank": 128,
    "learning_rate": 4e-3,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "horizontal_flip": True,
    "shift_px": 2,
}
LEAST_ACCURACY, LIMIT_S = 0.935, 15 * 60.0
VALIDATION_ROWS = 5_000
SHARE = float(os.environ.get("TRAINYARD_BENCHMARK_SHARE", "1"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    process = MlflowProcess(tmp_path_factory.mktemp("mlflow"))
    process.start()
    yield process.client()
    process.stop()


def published(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[n, 28, 28, 1]` and labels int64 `[n]` of `train` or `t10k`."""
    pixels = gzip.decompress((FASHION_MNIST_FOLDER / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FASHION_MNIST_FOLDER / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28, 1).copy()
    return images, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """5,000 of the 60,000 training rows are held out; the published test rows stay as they are."""
    images, labels = published("train")
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[: int(SHARE * len(order))]
    held_out, rest = np.split(order, [int(SHARE * VALIDATION_ROWS)])
    return {"train": (images[rest], labels[rest]), "validation": (images[held_out], labels[held_out])}


class Curve:
    """Scores the test rows after each epoch, by the checkpoint that lies in the work folder then."""

    def __init__(self, config: TrainConfig, data: TrainingData, folder: Path) -> None:
        from tasks.train.loop.inputs import scale_of

        algorithm, self.settings = config.resolve(data.problem, len(data.train))
        assert isinstance(algorithm, NetworkAlgorithm)
        self.algorithm, self.folder, self.scale = algorithm, folder, scale_of(data)
        self.shape = data.train.inputs.shape[1:]
        self.test_images, self.test_labels = published("t10k")
        self.points: list[dict[str, float]] = []
        self.paused_s = 0.0
        self.began = time.perf_counter()

    def __call__(self, epoch: int, epochs: int, metrics: Metrics) -> None:
        """See `tasks.train.algorithms.fit.Report`."""
        stopped = time.perf_counter()
        elapsed_s = stopped - self.began - self.paused_s
        newest = max((self.folder / "checkpoints").glob("epoch-*.safetensors"))
        tensors = load_file(newest)
        network = self.algorithm.network(self.shape, len(FASHION_MNIST_CLASSES), self.settings)
        prefix = "averaged." if any(name.startswith("averaged.") for name in tensors) else "network."
        network.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        model = NetworkModel(network, self.scale, self.shape, len(FASHION_MNIST_CLASSES), {})
        accuracy = right_share(model, self.test_images, self.test_labels)
        self.points.append(
            {
                "epoch": epoch,
                "minutes": elapsed_s / 60,
                "test_accuracy": accuracy,
                "validation_accuracy": metrics["validation_accuracy"],
                "rows_per_s": metrics["rows_per_s"],
            }
        )
        print(
            f"epoch {epoch} of {epochs}: {elapsed_s / 60:.2f} min, test {accuracy:.4f}, "
            f"validation {metrics['validation_accuracy']:.4f}, {metrics['rows_per_s']:,.0f} images/s",
            flush=True,
        )
        self.paused_s += time.perf_counter() - stopped


def right_share(model: Any, images: np.ndarray, labels: np.ndarray) -> float:
    return float((model.predict(images).argmax(axis=1) == labels).mean())


def test_accuracy_against_minutes(client: MlflowClient, tmp_path: Path) -> None:
    store = DatasetStore(str(tmp_path / "store"))
    ref = store_pictures(store, "fashion-mnist", splits(), FASHION_MNIST_CLASSES)
    recipe = {**RECIPE, **json.loads(os.environ.get("TRAINYARD_FASHION_MNIST", "{}"))}
    algorithm = recipe.pop("algorithm", ALGORITHM)
    config = TrainConfig(algorithm=algorithm, hyperparameters=recipe)
    curve = Curve(config, read_training_data(store, ref), tmp_path / "work")

    curve.began = time.perf_counter()
    run = train(ref, config, store, client, tmp_path / "work", curve)
    took_s = time.perf_counter() - curve.began - curve.paused_s
    bundle = Bundle.load(download_bundle(client, run.model_uri, tmp_path / "models"))
    accuracy = right_share(bundle.model, curve.test_images, curve.test_labels)

    folder = Path(os.environ.get("TRAINYARD_BENCHMARK_FOLDER", tmp_path))
    summary = {
        "algorithm": algorithm,
        "recipe": recipe,
        "cores": len(os.sched_getaffinity(0)),
        "minutes": took_s / 60,
        "test_accuracy": accuracy,
        "points": curve.points,
    }
    (folder / "fashion-mnist-curve.json").write_text(json.dumps(summary, indent=1) + "\n")
    draw(summary, folder / "fashion-mnist-curve.svg")
    print(f"\n| Fashion-MNIST, {algorithm} | {accuracy:.4f} | {took_s / 60:.1f} min | 0.935 in 15 min |")
    assert took_s < LIMIT_S
    assert accuracy >= LEAST_ACCURACY


def draw(summary: dict[str, Any], path: Path) -> None:
    """The curve of test accuracy against minutes."""
    points = summary["points"]
    card = style.figure(3.4)
    axes = card.add_subplot()
    minutes = [point["minutes"] for point in points]
    percent = [100 * point["test_accuracy"] for point in points]
    axes.plot(minutes, percent, color=style.BLUE, linewidth=1.8, marker="o", markersize=3.5)
    axes.axhline(100 * LEAST_ACCURACY, color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        f"{100 * LEAST_ACCURACY:g} %", (0, 100 * LEAST_ACCURACY), xytext=(2, -11),
        textcoords="offset points", fontsize=9, color=style.MUTED,
    )  # fmt: skip
    axes.annotate(
        f"{percent[-1]:.1f} %", (minutes[-1], percent[-1]), xytext=(0, 6),
        textcoords="offset points", ha="center", fontsize=9.5, color=style.INK, fontweight="bold",
    )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(max(80, min(percent) - 1), max(percent) + 1)
    axes.set_xlabel(f"minutes of training on {summary['cores']} cores")
    axes.set_ylabel("accuracy on the test images, %")
    style.plain_axes(axes)
    detail = f"{summary['algorithm']}, {len(points)} epochs, {summary['minutes']:.1f} minutes in all"
    style.title(card, "Fashion-MNIST", detail)
    card.savefig(path, format="svg", facecolor=style.CARD)
