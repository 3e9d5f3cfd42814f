"""Pictures of stripes: data that a tiny network learns in a second, the same in every process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tasks.refs import Problem
from tasks.train import algorithms
from tasks.train.algorithms.algorithm import Fit, FitContext, Metrics, Rows, TrainingData

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


def main(work_folder: str, weights: str, stop_after: str) -> None:
    """Train in a process of its own: after `stop_after` epochs say so on stdout and wait to be killed."""

    def report(epoch: int, epochs: int, metrics: Metrics) -> None:
        print(f"epoch {epoch}", flush=True)
        if epoch == int(stop_after):
            sys.stdin.read()

    fit = fit_striped(context=FitContext(seed=3, work_folder=Path(work_folder), report=report))
    fit.model.save(Path(weights))


if __name__ == "__main__":
    main(*sys.argv[1:])
