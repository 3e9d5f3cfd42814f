"""One training of a sweep: fit, and score what it gave on the held-out rows. Runs in a Ray worker."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.data.read import ImageSplit, read_raw_rows, read_split
from tasks.data.storage.store import DatasetStore
from tasks.evaluate.evaluate import latency_p50_ms
from tasks.evaluate.scores import headline_interval
from tasks.refs import DatasetRef, Problem, RunRef
from tasks.sweep.plan import Attempt
from tasks.train.algorithms.one_call import FitOutOfTime
from tasks.train.built_in import BuiltIn
from tasks.train.bundle import Bundle
from tasks.train.config import TrainConfig
from tasks.train.mlflow_model import download_bundle
from tasks.train.scores import headline, split_scores
from tasks.train.tags import REASON_TAG, TRIAL_TAG
from tasks.train.train import train
from tasks.train.training_data import read_training_data

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from numpy.typing import NDArray

    from tasks.train.algorithms.fit import TrainingData

Interval = tuple[float, float]


@dataclass(frozen=True)
class SweepJob:
    """What all trainings of a sweep share. Small, since it travels to every worker.

    Attributes:
        ref: The dataset version.
        store_url: Root of the dataset store.
        tracking_uri: Of MLflow.
        experiment: MLflow experiment.
        parent: The sweep's MLflow run.
        folder: Each training has a folder of its own below this.
        seed: Start of the random numbers of every training.
        stop_at: Value of `time.time()` when fits end with the best that they have.
        tags: More tags for the runs.
        store_options: fsspec options of the store.
    """

    ref: DatasetRef
    store_url: str
    tracking_uri: str
    experiment: str
    parent: str
    folder: str
    seed: int
    stop_at: float
    tags: dict[str, str] = field(default_factory=dict)
    store_options: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class HeldOut:
    """How a model does on rows that it has not learned from: the headline metric, with its 95 % interval."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Attributes:
        run: Its MLflow run.
        held_out: By split, where the problem has labels: validation, and test if there is one.
    """

    run: RunRef
    held_out: dict[str, HeldOut]


def run_attempt(job: SweepJob, attempt: Attempt, share_s: float) -> Trained:
    """Train, and score the model.

    What is measured here is logged at once: a process that is ended while it scores leaves a whole training.

    Args:
        job: The sweep.
        attempt: What to train.
        share_s: Seconds that the fit may take.

    Raises:
        FitOutOfTime: The sweep's time was up before the rows were read.
    """
    store, client = _opened(job)
    settings = _settings(job, attempt)
    trainer = BuiltIn.of(job.ref, TrainConfig.model_validate(settings), store)
    left_s = min(share_s, job.stop_at - time.time())  # the rows are read by now, which may have taken long
    if left_s < 1:
        raise FitOutOfTime("not fitted: out of time", mend="give the sweep more time")
    config = TrainConfig.model_validate({**settings, "max_time_s": int(left_s)})
    folder = Path(job.folder, str(attempt.number))
    run = train(
        job.ref,
        config,
        store,
        client,
        folder,
        trainer=trainer,
        tags=_tags(job, attempt),
        should_stop=lambda: time.time() >= job.stop_at,
        parent=job.parent,
    )
    return _scored(job, run, folder / "bundle", trainer.data, store, client)


def run_ensemble(job: SweepJob, attempt: Attempt, best: Attempt, runs: list[RunRef]) -> Trained:
    """Weigh trained models, and score the ensemble.

    Args:
        job: The sweep.
        attempt: The ensemble's.
        best: The training that is best by itself: its settings stand for the ensemble's when it is copied.
        runs: Trainings to choose from, best first.
    """
    from tasks.sweep.ensemble import Ensemble

    store, client = _opened(job)
    folder = Path(job.folder, str(attempt.number))
    bundles = [Bundle.load(download_bundle(client, run.model_uri, folder / "members")) for run in runs]
    trainer = Ensemble(job.ref, store, read_training_data(store, job.ref), runs, bundles, job.seed)
    run = train(
        job.ref,
        TrainConfig.model_validate(_settings(job, best)),
        store,
        client,
        folder,
        trainer=trainer,
        tags=_tags(job, attempt),
        parent=job.parent,
    )
    return _scored(job, run, folder / "bundle", trainer.data, store, client)


def _opened(job: SweepJob) -> tuple[DatasetStore, MlflowClient]:
    import mlflow

    mlflow.set_tracking_uri(job.tracking_uri)
    return DatasetStore(job.store_url, job.store_options), mlflow.MlflowClient(job.tracking_uri)


def _settings(job: SweepJob, attempt: Attempt) -> dict[str, Any]:
    return {
        "algorithm": attempt.algorithm,
        "hyperparameters": attempt.point,
        "seed": job.seed,
        "experiment": job.experiment,
    }


def _tags(job: SweepJob, attempt: Attempt) -> dict[str, str]:
    return {**job.tags, TRIAL_TAG: str(attempt.number), REASON_TAG: attempt.reason[:250]}


def _scored(
    job: SweepJob, run: RunRef, folder: Path, data: TrainingData, store: DatasetStore, client: MlflowClient
) -> Trained:
    """Measure a recorded model, and log it at once."""
    bundle = Bundle.load(folder)
    raw = read_raw_rows(store, job.ref, "validation", limit=5)
    client.log_metric(run.run_id, "latency_p50_ms", latency_p50_ms(bundle, raw))
    if not job.ref.problem.has_label:
        return Trained(run, {})
    validation = data.validation
    assert validation is not None  # the sweep refuses versions without
    measured = {"validation": _measured(bundle, "validation", validation.inputs, validation.labels)}
    if store.open(job.ref).splits.get("test"):
        test = read_split(store, job.ref, "test")
        inputs = test.images if isinstance(test, ImageSplit) else test.features.to_numpy(np.float64)
        measured["test"] = _measured(bundle, "test", inputs, test.labels)
        client.log_metric(run.run_id, f"test_{headline(job.ref.problem)[0]}", measured["test"].value)
    return Trained(run, measured)


def _measured(bundle: Bundle, split: str, inputs: NDArray[Any], labels: NDArray[Any]) -> HeldOut:
    return held_out(bundle.problem, split, labels, bundle.model.predict(inputs))


def held_out(problem: Problem, split: str, labels: NDArray[Any], scores: NDArray[np.float32]) -> HeldOut:
    """The headline metric of predictions, with its interval.

    Args:
        problem: What was predicted.
        split: Name of the split.
        labels: int64 class indices `[n]`, or float64 values `[n]`.
        scores: Probabilities `[n, classes]`, or values `[n]`.
    """
    value = split_scores(split, problem, labels, scores)[f"{split}_{headline(problem)[0]}"]
    predicted = scores.argmax(axis=1) if problem.is_classification else scores
    return HeldOut(value, headline_interval(problem, labels, predicted))
