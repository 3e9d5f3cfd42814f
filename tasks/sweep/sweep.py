"""Train algorithms as Ray tasks, each an ordinary run below the sweep's, and choose the best."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from tasks.data.read import raw_manifest, read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings
from tasks.evaluate.evaluate import latency_p50_ms
from tasks.refs import DATASET_TAG, DatasetRef, RunRef, StudyRef
from tasks.sweep.config import SweepConfig
from tasks.sweep.recommend import Recommendation, recommend
from tasks.train import algorithms
from tasks.train.algorithms.suitability import Characteristics
from tasks.train.bundle import Bundle
from tasks.train.config import TrainConfig
from tasks.train.tags import (
    BEST_ALGORITHM_TAG,
    BEST_RUN_TAG,
    END_REASON_TAG,
    KIND_TAG,
    PARENT_TAG,
    REASON_TAG,
    STATUS_TAG,
)
from tasks.train.tracking import TrackedRun, tracked_run
from tasks.train.train import train
from tasks.train.training_data import read_training_data
from tasks.tune.records import metric_names, objective

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tasks.train.algorithms.fit import TrainingData

GRACE_S = 5.0
"""A training keeps its best model when its time is up; this is for writing it down."""
POLL_S = 1.0
"""Ray is asked this often, so that a cancelled run is not held up by a blocking wait."""


@dataclass(frozen=True)
class Entry:
    """How one algorithm did; `error` is empty if it did."""

    algorithm: str
    run: RunRef | None = None
    score: float | None = None
    error: str = ""


Watch = Callable[[list[Entry], int], None]
"""Hears of the entries so far, and of how many there will be, whenever one ends."""


def run_sweep(
    ref: DatasetRef,
    config: SweepConfig,
    store: DatasetStore,
    client: MlflowClient,
    work_folder: Path,
    watch: Watch = lambda entries, total: None,
    *,
    tags: Mapping[str, str] | None = None,
) -> StudyRef:
    """Try algorithms in the recommended order until all are trained or the budget is used up.

    Args:
        ref: A preprocessed dataset version.
        config: The sweep.
        store: Where dataset versions are.
        client: MLflow; Ray's workers talk to it as well.
        work_folder: For checkpoints; may be deleted when this returns.
        watch: Hears of every algorithm that ended.
        tags: More tags for the runs.

    Returns:
        The sweep; its best is the winner's ordinary training.

    Raises:
        InvalidSettings: An algorithm cannot learn the problem; no run is made.
        InvalidData: There is no validation split to choose by, or no algorithm was trained in time.
    """
    deadline = time.monotonic() + config.budget_s
    metric, mode = objective(ref.problem, None)
    if metric not in metric_names(ref.problem, list(store.open(ref).splits)):
        raise InvalidData(
            f"{ref} has no validation split to choose an algorithm by",
            mend="preprocess with a validation split",
        )
    names = [algorithms.get(name, ref.problem).name for name in config.algorithms]
    order = recommend(characteristics(store, ref), names or algorithms.names(ref.problem))
    parallel = min(config.max_parallel, _slots(), len(order))
    all_tags = {**config.tags, **(tags or {}), KIND_TAG: "sweep", DATASET_TAG: str(ref)}
    with tracked_run(client, config.experiment, name=f"sweep on {ref.name}", tags=all_tags) as run:
        run.params({"dataset": str(ref), "metric": metric, "mode": mode, "budget_s": config.budget_s})
        client.log_text(
            run.run_id, json.dumps([one.model_dump() for one in order], indent=1), "recommendation.json"
        )
        entries = _train_all(
            ref, config, store, client, work_folder, order, run, parallel, deadline, watch, tags
        )
        sign = -1.0 if mode == "max" else 1.0
        scored = [entry for entry in entries if entry.score is not None and entry.run is not None]
        scored.sort(key=lambda entry: sign * (entry.score or 0.0))
        missed = [f"{entry.algorithm}: {entry.error}" for entry in entries if entry.score is None]
        reason = (
            f"{len(scored)} of {len(order)} algorithms trained; {'; '.join(missed)}"
            if missed
            else "all algorithms tried"
        )
        run.tag({END_REASON_TAG: reason})
        if not scored or scored[0].run is None:
            raise InvalidData(
                f"No algorithm was trained within {config.budget_s} s",
                where="; ".join(missed),
                mend="give the sweep more time" if time.monotonic() >= deadline else "correct that",
            )
        winner = scored[0].run
        run.tag({BEST_RUN_TAG: winner.run_id, BEST_ALGORITHM_TAG: winner.algorithm})
        run.metrics({f"best_{metric}": scored[0].score or 0.0, "algorithms": len(scored)})
    return StudyRef(
        run_id=run.run_id, experiment=config.experiment, trials=len(entries), best=winner, end_reason=reason
    )


def characteristics(store: DatasetStore, ref: DatasetRef) -> Characteristics:
    """What a preprocessed version is like."""
    data: TrainingData = read_training_data(store, ref)
    raw = raw_manifest(store, store.open(ref))
    counts = np.bincount(data.train.labels) if ref.problem.is_classification else np.ones(1)
    fair = len(data.train) / max(len(data.classes), 1)
    kinds = [feature.type == "categorical" for feature in raw.features]
    return Characteristics(
        problem=ref.problem,
        train_rows=len(data.train),
        columns=len(data.inputs),
        classes=len(data.classes),
        smallest_class_share=float(counts.min() / fair) if ref.problem.is_classification else 1.0,
        image_side_px=0 if ref.problem.is_table else int(max(data.train.inputs.shape[1:3])),
        categorical_share=sum(kinds) / max(len(kinds), 1),
    )


def _train_all(
    ref: DatasetRef,
    config: SweepConfig,
    store: DatasetStore,
    client: MlflowClient,
    work_folder: Path,
    order: list[Recommendation],
    run: TrackedRun,
    parallel: int,
    deadline: float,
    watch: Watch,
    tags: Mapping[str, str] | None,
) -> list[Entry]:
    """Keep `parallel` trainings running until all are done or the time is up."""
    metric, _ = objective(ref.problem, None)
    waiting = list(order)
    running: dict[Any, str] = {}
    entries: list[Entry] = []
    while waiting or running:
        now = time.monotonic()
        while waiting and len(running) < parallel and now < deadline - GRACE_S:
            # Those that are still to come get their share of the time: the slowest must not take all.
            rounds = -(-(len(waiting) + len(running)) // parallel)
            share_s = max(1.0, (deadline - GRACE_S - now) / max(rounds, 1))
            next_one = waiting.pop(0)
            settings = TrainConfig(
                algorithm=next_one.algorithm,
                seed=config.seed,
                experiment=config.experiment,
                max_time_s=max(1, int(share_s)),
            )
            folder = str(work_folder / next_one.algorithm)
            future = _train_one.remote(
                ref,
                settings,
                store.url,
                store.options,
                client.tracking_uri,
                folder,
                run.run_id,
                {**(tags or {}), REASON_TAG: next_one.reason[:250]},
            )
            running[future] = next_one.algorithm
        if not running:
            break
        done, _ = ray.wait(list(running), timeout=POLL_S)
        for future in done:
            entries.append(_entry(future, running.pop(future), client, metric))
            watch(entries, len(order))
        if time.monotonic() >= deadline:
            break
    for future, name in running.items():
        ray.cancel(future, force=True)
        entries.append(Entry(name, error="out of time"))
    entries += [Entry(one.algorithm, error="not started: out of time") for one in waiting]
    _close_killed(client, run)
    watch(entries, len(order))
    return entries


@ray.remote(num_cpus=1, max_retries=0)
def _train_one(
    ref: DatasetRef,
    config: TrainConfig,
    store_url: str,
    store_options: dict[str, Any],
    tracking_uri: str,
    folder: str,
    parent: str,
    tags: dict[str, str],
) -> RunRef:
    """One ordinary training, in a Ray worker."""
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    client = mlflow.MlflowClient(tracking_uri)
    store = DatasetStore(store_url, store_options)
    run = train(ref, config, store, client, Path(folder), tags=tags, parent=parent)
    raw = read_raw_rows(store, ref, "validation", limit=5)
    latency_ms = latency_p50_ms(Bundle.load(Path(folder, "bundle")), raw)
    client.log_metric(run.run_id, "latency_p50_ms", latency_ms)
    return run


def _entry(future: Any, name: str, client: MlflowClient, metric: str) -> Entry:
    try:
        run: RunRef = ray.get(future)
    except ray.exceptions.RayTaskError as error:
        return Entry(name, error=str(error.cause or error).splitlines()[0][:400])
    except ray.exceptions.RayError as error:
        return Entry(name, error=f"its process ended: {type(error).__name__}")
    score = client.get_run(run.run_id).data.metrics.get(f"best_{metric}")
    return Entry(name, run, score, "" if score is not None else f"reported no {metric}")


def _close_killed(client: MlflowClient, parent: TrackedRun) -> None:
    """Close the runs of trainings whose process was ended: they could not do it themselves."""
    experiment = client.get_run(parent.run_id).info.experiment_id
    nested = f"tags.`{PARENT_TAG}` = '{parent.run_id}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment], nested):
        client.set_tag(run.info.run_id, STATUS_TAG, "aborted")
        client.set_terminated(run.info.run_id, "KILLED")


def _slots() -> int:
    there = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
    if there < 1:
        raise InvalidSettings("Ray has no CPU slot", mend="give the Ray cluster block at least one CPU")
    return there
