"""Run a study on Ray: search, mirror, end, and train the best configuration as an ordinary run."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

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
from tasks.tune import points, ranges
from tasks.tune.config import SearchDimension, TuneConfig
from tasks.tune.mirror import Goal, Mirror
from tasks.tune.records import Study, metric_names, objective
from tasks.tune.trial import EPOCH, TrialJob, run_trial, trial_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

Watch = Callable[[Study], None]
"""Hears of the study whenever a trial starts or ends."""


def run_study(
    ref: DatasetRef,
    config: TuneConfig,
    store: DatasetStore,
    client: MlflowClient,
    work_folder: Path,
    watch: Watch = lambda study: None,
    *,
    tags: Mapping[str, str] | None = None,
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
    listed, planned, exhausts = _listed(config, space)
    study = Study(
        metric, mode, planned, exhausts, config.goal, config.max_failed, time_limit_s=config.time_limit_s
    )
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
    with tracked_run(client, config.experiment, name=name, tags=all_tags) as run:
        run.params(
            {
                "algorithm": algorithm, "dataset": str(ref), "metric": metric, "mode": mode,
                "search": [dimension.model_dump(exclude_defaults=True) for dimension in space],
                **config.model_dump(include={"searcher", "scheduler", "max_trials", "time_limit_s", "seed"}),
            }
        )  # fmt: skip
        experiment = client.get_run(run.run_id).info.experiment_id
        mirror = Mirror(client, experiment, run.run_id, study, lambda: watch(study))
        _search(job, config, space, listed, study, mirror, work_folder)
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
            TrainConfig(
                algorithm=algorithm,
                hyperparameters={**config.hyperparameters, **best.point},
                seed=config.seed,
                experiment=config.experiment,
            ),
            store,
            client,
            trial_folder(job, best.id),
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


def _search(
    job: TrialJob,
    config: TuneConfig,
    space: list[SearchDimension],
    listed: list[points.Point] | None,
    study: Study,
    mirror: Mirror,
    work_folder: Path,
) -> None:
    """Let Ray run the trials."""

    def trainable(settings: dict[str, Any]) -> None:
        trial = tune.get_context().get_trial_id()
        run_trial(job, settings.get("point", settings), trial, tune.report)

    # The loggers of Ray write the same numbers to files that nobody reads.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"point": tune.grid_search(listed)} if listed is not None else None,
        tune_config=tune.TuneConfig(
            metric=study.metric,
            mode=study.mode,
            num_samples=1 if listed is not None else study.planned,
            search_alg=None if listed is not None else _optuna(space, config.seed, study),
            scheduler=_scheduler(config),
            max_concurrent_trials=config.max_parallel,
            time_budget_s=config.time_limit_s,
            reuse_actors=True,  # a new actor for each trial imports everything again
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(work_folder.resolve()),
            callbacks=[mirror],
            stop=Goal(study),
            failure_config=tune.FailureConfig(max_failures=0),
            verbose=0,
        ),
    )
    tuner.fit()


def _listed(config: TuneConfig, space: list[SearchDimension]) -> tuple[list[points.Point] | None, int, bool]:
    """Points known beforehand (none for TPE), how many will run, and whether those are all there are."""
    if config.searcher == "tpe":
        return None, int(min(config.max_trials, points.size(space))), False
    if config.searcher == "grid":
        every = points.grid(space)
        listed = every[: config.max_trials]
        return listed, len(listed), len(listed) == len(every)
    listed = points.draw(space, config.max_trials, config.seed)
    return listed, len(listed), points.size(space) <= len(listed)


def _optuna(space: list[SearchDimension], seed: int, study: Study) -> OptunaSearch:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, min(10, study.planned // 3)))
    return OptunaSearch(
        {dimension.name: _distribution(dimension) for dimension in space},
        metric=study.metric,
        mode=study.mode,
        sampler=sampler,
    )


def _distribution(dimension: SearchDimension) -> optuna.distributions.BaseDistribution:
    if dimension.kind == "choice" or (dimension.kind == "log" and not math.isinf(dimension.count)):
        return optuna.distributions.CategoricalDistribution(points.values(dimension))
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.kind == "int":
        last = points.values(dimension)[-1]
        return optuna.distributions.IntDistribution(
            int(dimension.low), int(last), step=int(dimension.step or 1)
        )
    if dimension.step is not None:
        last = dimension.low + dimension.step * (dimension.count - 1)
        return optuna.distributions.FloatDistribution(dimension.low, last, step=dimension.step)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.kind == "log")


def _scheduler(config: TuneConfig) -> TrialScheduler | None:
    if config.scheduler == "asha":
        # Epochs beyond any real training: a trial that reaches its own last epoch ends by itself.
        return ASHAScheduler(
            time_attr=EPOCH,
            grace_period=config.grace_epochs,
            max_t=100_000,
            reduction_factor=3,
            stop_last_trials=False,
        )
    if config.scheduler == "median":
        return MedianStoppingRule(
            time_attr=EPOCH, grace_period=config.grace_epochs, min_samples_required=config.min_trials
        )
    return None


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
