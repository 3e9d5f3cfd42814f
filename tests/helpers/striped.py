"""Pictures of stripes: data that a tiny network learns in a second, the same in every process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from tasks.refs import Problem
from tasks.train import algorithms
from tasks.train.algorithms.fit import Fit, FitContext, Rows, TrainingData
from tasks.train.loop.callbacks import checkpoints

SETTINGS = {"width": 4, "epochs": 6, "batch_size_per_rank": 16, "dropout": 0.2, "precision": "float32"}


def striped(rows: int = 96, side_px: int = 8) -> TrainingData:
    """Noise, horizontal stripes and vertical stripes, as three classes."""
    random = np.random.default_rng(0)

    def split(n: int) -> Rows:
        labels = random.integers(0, 3, n)
        images = random.integers(0, 60, (n, side_px, side_px, 1), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            if label:
                pattern = image if label == 1 else image.transpose(1, 0, 2)
                pattern[::3] += 150
        return Rows(images, labels)

    return TrainingData(Problem.IMAGE_CLASSIFICATION, split(rows), split(48), ("noise", "lines", "bars"))


def fit_striped(
    data: TrainingData | None = None, context: FitContext | None = None, **changes: object
) -> Fit:
    """Train a tiny network on them."""
    algorithm = algorithms.get("six_layer_cnn")
    settings = algorithms.settings(algorithm, {**SETTINGS, **changes})
    return algorithm.fit(data or striped(), settings, context or FitContext())


EVERYTHING = {
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "schedule": "cosine",
    "gradient_clip_norm": 1.0,
    "class_weights": "balanced",
    "label_smoothing": 0.1,
    "weight_averaging": 0.9,
    "precision": "bfloat16",
    "horizontal_flip": True,
    "rotation_degrees": 10,
    "zoom_percent": 10,
    "brightness_percent": 20,
    "erase_percent": 30,
    "mixup": 0.4,
    "cutmix": 1.0,
}
"""Every feature of the loop at once."""


def main(work_folder: str, weights: str, wait_at: str, changes: str) -> None:
    """Train in a process of its own that keeps a checkpoint of each step.

    It tells each step and epoch on stdout; at the line `wait_at` it waits to be killed.
    """
    checkpoints.EVERY_S, checkpoints.LARGEST_SHARE = 0.0, float("inf")

    def tell(line: str) -> None:
        print(line, flush=True)
        if line == wait_at:
            sys.stdin.read()

    context = FitContext(
        seed=3,
        work_folder=Path(work_folder),
        report=lambda epoch, epochs, metrics: tell(f"epoch {epoch}"),
        report_steps=lambda step, metrics: tell(f"step {step}"),
    )
    settings = {**json.loads(changes), "logging_steps": 1}
    fit_striped(context=context, **settings).model.save(Path(weights))


if __name__ == "__main__":
    main(*sys.argv[1:])
