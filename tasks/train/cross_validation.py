"""k-fold cross-validation: as many fits as there are folds, each scored on the fold that it left out.

What is kept is one more fit, on all rows and as long as the folds' best ones were on average, so that
the model has seen everything. Its quality is told by the folds (Hastie, Tibshirani and Friedman, The
Elements of Statistical Learning, 2009, section 7.10). Early stopping looks at the left-out fold too,
which flatters the figure a little.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.train.algorithms.algorithm import Algorithm, AlgorithmSettings
from tasks.train.algorithms.fit import Fit, FitContext, Metrics, TrainingData

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FIT, FITS, FIT_EPOCH = "fit", "fits", "fit_epoch"
"""What a report says besides, where there are several fits: which one, from 1, of how many, and its epoch."""

LEAST_S = 1e-3
"""Time that fits are given when none is left: enough to end with a first model."""


@dataclass
class FoldScores:
    """How the folds went.

    Attributes:
        metrics: Of each fold, at the best epoch of its fit.
        best_epochs: That epoch.
        fit_time_s: Seconds that all their fits took.
        stopped: The fit of a fold in which the whole was stopped; None where all went through.
    """

    metrics: list[Metrics] = field(default_factory=list)
    best_epochs: list[int] = field(default_factory=list)
    fit_time_s: float = 0.0
    stopped: Fit | None = None

    def summary(self) -> Metrics:
        """`cv_<metric>_mean` and `cv_<metric>_std` (the deviation of a sample) of the validation metrics."""
        found: Metrics = {}
        for name in self.metrics[0] if len(self.metrics) > 1 else ():
            values = [one[name] for one in self.metrics if name in one]
            if name.startswith("validation_") and len(values) == len(self.metrics):
                found[f"cv_{name}_mean"] = statistics.fmean(values)
                found[f"cv_{name}_std"] = statistics.stdev(values)
        return found


@dataclass(frozen=True)
class CrossValidated:
    """A metric as a training recorded it.

    Attributes:
        mean: Of the folds.
        deviation: Of a sample.
        folds: The value of each fold, by its number from 1.
    """

    mean: float
    deviation: float
    folds: dict[int, float]

    def __str__(self) -> str:
        each = ", ".join(f"{value:.4f}" for value in self.folds.values())
        return f"{self.mean:.4f} ± {self.deviation:.4f} (folds: {each})"


def recorded(client: MlflowClient, run: Run) -> dict[str, CrossValidated]:
    """What a run says of its cross-validation, by metric such as `accuracy`; empty where it had none."""
    metrics, found = run.data.metrics, {}
    for key in sorted(metrics):
        named = re.fullmatch(r"cv_validation_(.+)_mean", key)
        if named is None or "folds" not in run.data.params:
            continue
        name = named[1]
        history = client.get_metric_history(run.info.run_id, f"fold_validation_{name}")
        found[name] = CrossValidated(
            mean=metrics[key],
            deviation=metrics.get(f"cv_validation_{name}_std", math.nan),
            folds=dict(sorted((point.step, point.value) for point in history)),
        )
    return found


def place_of(standing: Metrics, epoch: int, epochs: int) -> str:
    """How far a fit is, in words: `Fold 3 of 5, epoch 2 of 10`; fits of one step have no epochs to count.

    Args:
        standing: Metrics of the last report, which say which fit it was.
        epoch: Reports so far, those of all fits together.
        epochs: Reports that there will be at most.
    """
    fits = int(standing.get(FITS, 1))
    each = epochs // fits
    words = []
    if fits > 1:
        fit = int(standing[FIT])
        words.append("all rows" if fit == fits else f"fold {fit} of {fits - 1}")
    if each > 1:
        words.append(f"epoch {standing.get(FIT_EPOCH, epoch):.0f} of {each}")
    said = ", ".join(words) or "fitted"
    return said[:1].upper() + said[1:]


def cross_validate(
    algorithm: Algorithm,
    settings: AlgorithmSettings,
    folds: int,
    read: Callable[[int], TrainingData],
    context: FitContext,
    heard: Callable[[int, Metrics], None],
) -> FoldScores:
    """Fit once a fold; folds that an earlier process finished are not fitted again.

    Args:
        algorithm: What to fit.
        settings: Its hyperparameters.
        folds: How many there are.
        read: Gives the rows with a fold, from 0, left out for validation.
        context: How to run the fits. Its report hears every epoch, counted over all fits, the one on
            all rows that follows included; its time limit is for all of them together.
        heard: Called with the number of a fold, from 1, and its metrics.
    """
    scores = FoldScores()
    for fold in range(folds):
        folder = context.work_folder / f"fold-{fold + 1}" if context.work_folder else None
        metrics, best_epoch, fit_time_s = _finished(folder)
        if metrics is None:
            fit = algorithm.fit(
                read(fold),
                settings,
                replace(share(context, fold, folds + 1, scores.fit_time_s), work_folder=folder),
            )
            if fit.ended == "stopped":
                return replace(scores, stopped=fit)
            metrics, best_epoch, fit_time_s = fit.best, fit.best_epoch, fit.fit_time_s
            _note(folder, metrics, best_epoch, fit_time_s)
        scores.fit_time_s += fit_time_s
        scores.metrics.append(metrics)
        scores.best_epochs.append(best_epoch)
        heard(fold + 1, metrics)
    return scores


def share(context: FitContext, number: int, fits: int, used_s: float) -> FitContext:
    """The context of one fit among several: its part of the progress and of the time that is left.

    What a fit leaves of its time is shared by those that follow, and what it takes too much is theirs to
    save, so that all of them together keep to the limit.

    Args:
        context: Of all of them, as it was when the first began.
        number: Which one, from 0.
        fits: How many there are.
        used_s: Seconds that those before it took.
    """

    def report(epoch: int, epochs: int, metrics: Metrics) -> None:
        about: Metrics = {FIT: number + 1, FITS: fits, FIT_EPOCH: epoch}
        context.report(number * epochs + epoch, fits * epochs, metrics | about)

    limit = context.max_time_s
    left_s = None if limit is None else max(limit - used_s, LEAST_S) / (fits - number)
    return replace(context, report=report, max_time_s=left_s)


def _finished(folder: Path | None) -> tuple[Metrics | None, int, float]:
    """What an earlier process noted of a fold."""
    if folder is None:
        return None, 0, 0.0
    try:
        noted = json.loads(folder.with_suffix(".json").read_text())
    except (FileNotFoundError, ValueError):
        return None, 0, 0.0
    return noted["metrics"], noted["best_epoch"], noted.get("fit_time_s", 0.0)


def _note(folder: Path | None, metrics: Metrics, best_epoch: int, fit_time_s: float) -> None:
    """Keep a fold's result, and drop its checkpoints."""
    if folder is None:
        return
    path = folder.with_suffix(".json")
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps({"metrics": metrics, "best_epoch": best_epoch, "fit_time_s": fit_time_s}))
    os.replace(aside, path)
    shutil.rmtree(folder, ignore_errors=True)
