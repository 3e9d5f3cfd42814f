"""Run a study on Ray: search, mirror, end, and train the best configuration as an ordinary run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import ray
from ray import tune

from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings
from tasks.refs import DATASET_TAG, DatasetRef, StudyRef
from tasks.train.config import TrainConfig
from tasks.train.tags import (
    BEST_RUN_TAG,
    BEST_TRIAL_TAG,
    END_REASON_TAG,
    KIND_TAG,
    STUDY_TAG,
    TRIAL_TAG,
)
from tasks.train.tracking import tracked_run
from tasks.train.train import train
from tasks.tune import points, ranges, recorded, schedulers
from tasks.tune.config import SearchDimension, TuneConfig
from tasks.tune.mirror import Goal, Mirror
from tasks.tune.recorded import Recorded
from tasks.tune.records import Study, metric_names, objective
from tasks.tune.suggest import Suggestions
from tasks.tune.trial import NUMBER, POINT, TrialJob, run_trial, trial_folder
from tasks.tune.trial_queue import TrialQueue

if TYPE_CHECKING:
    from mlflow import MlflowClient

Watch = Callable[[Study], None]
"""Hears of the study whenever a trial starts or ends."""
_SHOWN = {"searcher", "scheduler", "max_trials", "time_limit_s", "seed", "goal"}


def run_study(
    ref: DatasetRef,
    config: TuneConfig,
    store: DatasetStore,
    client: MlflowClient,
    work_folder: Path,
    watch: Watch = lambda study: None,
    *,
    tags: Mapping[str, str] | None = None,
    go_on: str | None = None,
) -> StudyRef:
    """Search hyperparameters. Ray must be connected.

    Args:
        ref: A preprocessed dataset version.
        config: The study.
        store: Where dataset versions are.
        client: MLflow.
        work_folder: For checkpoints of the trials; may be deleted when this returns.
        watch: Hears of every change.
        tags: More tags for the study's run.
        go_on: MLflow run of a study to go on with: trials that are over stay as they are, others go on from
            their checkpoints if these are left, and the rest of `max_trials` are new.

    Returns:
        The study; its best configuration is an ordinary training with a model.

    Raises:
        InvalidSettings: The space, the metric or the number of parallel trials cannot be; no run is made.
        InvalidData: No trial reported the metric; says what the first one failed of.
    """
    algorithm, space = ranges.resolve(config, ref.problem, ref.rows)
    metric, mode = objective(ref.problem, config.metric)
    _require_metric(metric, metric_names(ref.problem, list(store.open(ref).splits)), ref)
    _require_slots(config.max_parallel)
    size = points.size(space)
    planned = int(min(config.max_trials, size))
    study = Study(
        metric, mode, planned, size <= config.max_trials, config.goal, config.max_failed,
        time_limit_s=config.time_limit_s,
    )  # fmt: skip
    job = TrialJob(
        store_url=store.url,
        store_options=store.options,
        ref=ref,
        algorithm=algorithm,
        hyperparameters=config.hyperparameters,
        seed=config.seed,
        metric=metric,
        folder=str(work_folder / "trials"),
    )
    all_tags = {**config.tags, **(tags or {}), KIND_TAG: "study", DATASET_TAG: str(ref)}
    name = f"tune {algorithm} on {ref.name}"
    with tracked_run(client, config.experiment, name=name, tags=all_tags, resume=go_on) as run:
        before = recorded.trials_of(client, run.run_id, metric) if go_on else []
        recorded.recall(study, before)
        study.started -= recorded.elapsed_s(client, run.run_id)
        if not go_on:
            run.params(
                {
                    "algorithm": algorithm, "dataset": str(ref), "metric": metric, "mode": mode,
                    "search": [dimension.model_dump(exclude_defaults=True) for dimension in space],
                    **config.model_dump(include=_SHOWN),
                }
            )  # fmt: skip
        recorded.keep_settings(client, run.run_id, config, ref)
        experiment = client.get_run(run.run_id).info.experiment_id
        left = {one.trial.number: one.trial for one in before if not one.is_over}
        mirror = Mirror(client, experiment, run.run_id, study, job, left, lambda: watch(study))
        _search(job, config, space, before, study, mirror, work_folder)
        mirror.close_rest()
        reason = study.end_reason()
        run.tag({END_REASON_TAG: reason})
        best = study.best
        if best is None or best.best is None:
            raise _nothing_found(study, reason)
        run.metrics({f"best_{metric}": best.best, "trials": len(study.trials), "failed_trials": study.failed})
        # The trial's own folder: a network goes on from its checkpoint, with nothing left to fit.
        chosen = train(
            ref,
            training_of(algorithm, config, best.point),
            store,
            client,
            trial_folder(job, best.number),
            tags={
                **(tags or {}),
                STUDY_TAG: run.run_id,
                TRIAL_TAG: str(best.number),
                KIND_TAG: "best of study",
            },
            parent=run.run_id,
        )
        run.tag({BEST_RUN_TAG: chosen.run_id, BEST_TRIAL_TAG: str(best.number)})
    return StudyRef(
        run_id=run.run_id,
        experiment=config.experiment,
        trials=len(study.trials),
        best=chosen,
        end_reason=reason,
    )


def training_of(algorithm: str, config: TuneConfig, point: points.Point) -> TrainConfig:
    """The ordinary training that a trial is."""
    return TrainConfig(
        algorithm=algorithm,
        hyperparameters={**config.hyperparameters, **point},
        seed=config.seed,
        experiment=config.experiment,
    )


def _search(
    job: TrialJob,
    config: TuneConfig,
    space: list[SearchDimension],
    before: Sequence[Recorded],
    study: Study,
    mirror: Mirror,
    work_folder: Path,
) -> None:
    """Let Ray run the trials that are left."""
    suggestions = Suggestions(space, config.searcher, config.seed, study.mode, planned=study.planned)
    for one in before:
        suggestions.recall(one.trial.number, one.trial.point, one.trial.best, ended=one.is_over)
    unfinished = [(one.trial.number, one.trial.point) for one in before if not one.is_over]
    first = 1 + max((one.trial.number for one in before), default=0)
    to_run = study.planned - study.finished
    if to_run <= 0 or study.should_end or study.out_of_time:
        return

    def trainable(settings: dict[str, Any]) -> None:
        run_trial(job, settings[POINT], settings[NUMBER], tune.report)

    # The loggers of Ray write the same numbers to files that nobody reads.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a trial that diverges at once has none to tell
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            num_samples=to_run,
            search_alg=TrialQueue(suggestions, study, unfinished, first),
            scheduler=schedulers.scheduler(config, study, before),
            max_concurrent_trials=config.max_parallel,
            time_budget_s=study.time_limit_s - study.seconds,
            reuse_actors=True,  # a new actor for each trial imports everything again
        ),
        run_config=tune.RunConfig(
            name=f"ray-{uuid4().hex[:8]}",
            storage_path=str(work_folder.resolve()),
            callbacks=[mirror],
            stop=Goal(study, mirror.client, mirror.parent),
            failure_config=tune.FailureConfig(max_failures=0),
            verbose=0,
        ),
    )
    tuner.fit()


def _require_metric(metric: str, allowed: list[str], ref: DatasetRef) -> None:
    if metric in allowed:
        return
    divided = any(name.startswith("validation") for name in allowed)
    raise InvalidSettings(
        f"Trainings on {ref} report no {metric}",
        where="metric",
        allowed=", ".join(allowed),
        mend="choose one of these" if divided else "preprocess with a validation split",
    )


def _require_slots(wanted: int) -> None:
    there = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
    if wanted > there:
        raise InvalidSettings(
            f"{wanted} trials at the same time need {wanted} CPU slots, and Ray has {there}",
            where="max_parallel",
            allowed=f"1 to {there}",
            mend="run fewer at the same time, or give the Ray cluster block more CPUs",
        )


def _nothing_found(study: Study, reason: str) -> InvalidData:
    errors = [trial.error for trial in study.trials.values() if trial.error]
    return InvalidData(
        f"None of {len(study.trials)} trials reported {study.metric}; the study ended: {reason}",
        where=f"first error: {errors[0]}" if errors else "",
        mend="correct that, or give the study more time" if errors else "give the study more time",
    )
