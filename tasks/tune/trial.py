"""One trial: fit with one point of the space and say how each epoch went. Runs in a Ray worker."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef
from tasks.train import algorithms
from tasks.train.algorithms.algorithm import Value
from tasks.train.algorithms.fit import FitContext, Metrics, TrainingData
from tasks.train.loop.refusals import Diverged
from tasks.train.training_data import read_training_data
from tasks.tune.points import Point

EPOCH, EPOCHS, ENDED = "epoch", "epochs", "ended"
"""Names of what a trial reports beside its metrics; `ended` comes once, with the last report."""
POINT, NUMBER = "point", "number"
"""Names of what Ray hands to a trial."""


@dataclass(frozen=True)
class TrialJob:
    """What all trials of a study share. Small, since it travels to every worker.

    Attributes:
        store_url: Root of the dataset store.
        store_options: Its fsspec options.
        ref: The dataset version.
        algorithm: Algorithm to fit.
        hyperparameters: The fixed ones.
        seed: Start of the random numbers of every trial.
        metric: What is optimised.
        folder: Each trial keeps its checkpoints in a folder of its own below this.
    """

    store_url: str
    ref: DatasetRef
    algorithm: str
    hyperparameters: dict[str, Value]
    seed: int
    metric: str
    folder: str
    store_options: dict[str, Any] = field(default_factory=dict, repr=False)


def run_trial(
    job: TrialJob, point: Point, number: int, report: Callable[[dict[str, float | str]], None]
) -> None:
    """Fit once, reporting after each epoch; a trial that was paused goes on from its checkpoint.

    A loss or metric that is no longer a number ends the trial as diverged: what it reached before counts.

    Args:
        job: The study.
        point: Searched hyperparameters.
        number: Of the trial in the study.
        report: Hears each epoch's metrics with `epoch` and `epochs`, and at last `ended`.
    """
    algorithm = algorithms.get(job.algorithm)
    settings = algorithms.settings(algorithm, {**job.hyperparameters, **point})
    folder = trial_folder(job, number)
    folder.mkdir(parents=True, exist_ok=True)
    last: dict[str, float | str] = {}
    diverged = False

    def on_epoch(epoch: int, epochs: int, metrics: Metrics) -> None:
        nonlocal diverged
        diverged = diverged or not math.isfinite(metrics[job.metric])
        if not diverged:
            last.update({**metrics, EPOCH: epoch, EPOCHS: epochs})
            report(dict(last))

    context = FitContext(
        seed=job.seed,
        report=on_epoch,
        work_folder=folder,
        should_stop=lambda: diverged,
    )
    data = _data(job.store_url, tuple(sorted(job.store_options.items())), job.ref)
    try:
        ended = algorithm.fit(data, settings, context).ended
    except Diverged:
        diverged = True
    if last:
        report({**last, ENDED: "diverged" if diverged else ended})


def trial_folder(job: TrialJob, number: int) -> Path:
    """Where a trial keeps its checkpoints; found again by the next attempt at the study."""
    return Path(job.folder, f"trial-{number}")


@lru_cache(maxsize=1)
def _data(url: str, options: tuple[tuple[str, Any], ...], ref: DatasetRef) -> TrainingData:
    """A worker runs many trials on the same data: it is read once."""
    return read_training_data(DatasetStore(url, dict(options)), ref)
