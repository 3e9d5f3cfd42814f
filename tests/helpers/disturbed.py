"""A training on ranks that tests disturb: a small network on stripes, with a checkpoint of each step."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from tasks.train import algorithms
from tasks.train.algorithms.algorithm import Fit, FitContext, TrainingData
from tasks.train.ranks import launcher
from tasks.train.ranks.gang import Gang
from tasks.train.ranks.site import OnRanks
from tests.helpers.striped import SETTINGS, striped


@dataclass(frozen=True)
class Read:
    """Reads the rows, as every rank does once it has joined the others, and notes that it did.

    Attributes:
        folder: For the notes.
        rows: How many.
    """

    folder: str
    rows: int = 96

    def __call__(self) -> TrainingData:
        from tasks.train.loop.callbacks import checkpoints

        checkpoints.EVERY_S, checkpoints.LARGEST_SHARE = 0.0, float("inf")
        cluster = json.loads(os.environ["TF_CONFIG"])
        note = {
            "at": time.time(),
            "rank": cluster["task"]["index"],
            "size": len(cluster["cluster"]["worker"]),
            "pid": os.getpid(),
        }
        path = Path(self.folder) / f"{time.time_ns()}-{note['pid']}.json"
        path.with_suffix(".partial").write_text(json.dumps(note))
        path.with_suffix(".partial").rename(path)
        return striped(self.rows)


@dataclass
class Training:
    """One training, perhaps in several goes, and what was heard of it.

    Attributes:
        folder: For its checkpoints.
        launcher: How its ranks find each other.
        min_ranks: How many are enough.
        settings: Hyperparameters, besides those of the stripes.
        num_ranks: How many are wanted.
        at_step: Called with each step that is heard of, in the driver.
        should_stop: Asked now and then.
        steps: Each step that was heard of, and when.
        lines: What the launcher logged.
    """

    folder: Path
    launcher: str = "torch"
    min_ranks: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    num_ranks: int = 2
    rows: int = 96
    at_step: Callable[[int], None] = lambda _: None
    should_stop: Callable[[], bool] = lambda: False
    steps: list[tuple[float, int]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def work_folder(self) -> Path:
        """Where its checkpoints are."""
        return self.folder / "work"

    def fit(self, client: Client) -> Fit:
        """Train, from the newest checkpoint on."""
        notes = self.folder / "notes"
        notes.mkdir(parents=True, exist_ok=True)
        read = Read(str(notes), self.rows)
        algorithm = algorithms.get("six_layer_cnn")
        changes = {"batch_size_per_rank": 8, "logging_steps": 1, "patience_epochs": 10_000, **self.settings}
        gang = Gang(self.num_ranks, launcher.get(self.launcher), min_ranks=self.min_ranks, threads=1)
        data = striped(self.rows)
        context = FitContext(
            seed=3,
            work_folder=self.work_folder,
            report_steps=self._hear,
            should_stop=self.should_stop,
            launch=OnRanks(gang, client, self.lines.append),
        )
        return algorithm.fit(
            TrainingData(data.problem, data.train, data.validation, data.classes, read=read),
            algorithms.settings(algorithm, {**SETTINGS, **changes}),
            context,
        )

    def begun(self) -> list[dict[str, Any]]:
        """Ranks that have read their rows, in the order in which they did: at, rank, size, pid."""
        paths = sorted((self.folder / "notes").glob("*.json"))
        return [json.loads(path.read_text()) for path in paths]

    def _hear(self, step: int, metrics: Any) -> None:
        self.steps.append((time.time(), step))
        self.at_step(step)


def weights(fit: Fit) -> dict[str, np.ndarray]:
    """The weights of a fitted network."""
    return {name: value.numpy() for name, value in fit.model.network.state_dict().items()}  # type: ignore[attr-defined]


def main(address: str, folder: str, name: str, epochs: str) -> None:
    """Train as a driver of its own, which tells each step on stdout."""
    training = Training(
        Path(folder),
        name,
        settings={"epochs": int(epochs)},
        at_step=lambda step: print(f"step {step}", flush=True),
    )
    with Client(address, timeout=30) as client:
        fit = training.fit(client)
    print(f"ended {fit.ended} {fit.history[-1]['validation_accuracy']:.3f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
