"""Try algorithms under one time budget, each an ordinary run below the sweep's, and choose the best."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings, Unavailable
from tasks.refs import DATASET_TAG, DatasetRef, StudyRef
from tasks.sweep.board import make_board, write_board
from tasks.sweep.characteristics import characteristics
from tasks.sweep.config import SweepConfig
from tasks.sweep.plan import ENSEMBLE, points_of
from tasks.sweep.race import Entry, Race, Watch, ranked, run_last, run_race, within
from tasks.sweep.recommend import describe, recommend
from tasks.sweep.trial import SweepJob
from tasks.train import algorithms
from tasks.train.algorithms.suitability import Characteristics
from tasks.train.tags import BEST_ALGORITHM_TAG, BEST_RUN_TAG, END_REASON_TAG, KIND_TAG
from tasks.train.tracking import TrackedRun, tracked_run
from tasks.tune.records import metric_names, objective

if TYPE_CHECKING:
    from mlflow import MlflowClient

GRACE_S = 6.0
"""Fits end so long before the budget does: their models are written down, recorded and scored meanwhile."""
CLOSING_S = 2.0
"""Processes end so long before the budget does: the records are closed and the board is written meanwhile."""
ENSEMBLE_S = 12.0
"""Kept free for the ensemble, where there is to be one."""
LEAST_BUDGET_S = 60
"""Shorter sweeps have better use for that time."""
MOST_MEMBERS = 20
"""The best trainings, which an ensemble chooses from."""
LEAST_ROWS = 50
"""Fewer validation rows choose nothing."""


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
    """Try algorithms in the recommended order, then points of the best ones' searches, until the time is up.

    The budget is wall-clock time from this call to its return: reading the data, starting Ray's workers,
    fits, scoring and records all count. Starting Ray itself, before, does not. Fits are told to end
    `GRACE_S` before that, with the best model that they have; processes that are not done `CLOSING_S`
    before it, whatever they do, are killed. A training whose model was recorded by then counts.

    Args:
        ref: A preprocessed dataset version.
        config: The sweep.
        store: Where dataset versions are.
        client: MLflow; Ray's workers talk to it as well.
        work_folder: For checkpoints; may be deleted when this returns.
        watch: Hears of every training that ended.
        tags: More tags for the runs.

    Returns:
        The sweep; its best is the winner's ordinary training.

    Raises:
        InvalidSettings: An algorithm cannot learn the problem; no run is made.
        InvalidData: There is no validation split to choose by, or no algorithm was trained in time.
    """
    started = time.monotonic()
    splits = store.open(ref).splits
    later_s = ENSEMBLE_S if _can_be_weighed(ref, config, splits) else 0.0
    end_at = started + config.budget_s - CLOSING_S - later_s
    stop_at = started + config.budget_s - GRACE_S - later_s
    metric, mode = objective(ref.problem, None)
    if metric not in metric_names(ref.problem, list(splits)):
        raise InvalidData(
            f"{ref} has no validation split to choose an algorithm by",
            mend="preprocess with a validation split",
        )
    names = [algorithms.get(name, ref.problem).name for name in config.algorithms]
    names = names or algorithms.names(ref.problem)
    slots = _slots()
    about = _about(ref, store, config, end_at)
    order = recommend(about, names)
    all_tags = {**config.tags, **(tags or {}), KIND_TAG: "sweep", DATASET_TAG: str(ref)}
    with tracked_run(client, config.experiment, name=f"sweep on {ref.name}", tags=all_tags) as run:
        run.params(
            {
                "dataset": str(ref),
                "metric": metric,
                "mode": mode,
                "budget_s": config.budget_s,
                "trials_per_algorithm": config.trials_per_algorithm,
            }
        )
        recommendation = {
            "data": about.model_dump(mode="json"),
            "in_words": describe(about),
            "order": [one.model_dump() for one in order],
        }
        client.log_text(run.run_id, json.dumps(recommendation, indent=1), "recommendation.json")
        race = Race(
            order=order,
            points=points_of(names, ref.problem, ref.rows, config.trials_per_algorithm, config.seed),
            limit=config.trials_per_algorithm,
            parallel=min(config.max_parallel, slots),
            metric=metric,
            mode=mode,
            stop_at=stop_at,
            end_at=end_at,
        )
        job = SweepJob(
            ref=ref,
            store_url=store.url,
            store_options=store.options,
            tracking_uri=client.tracking_uri,
            experiment=config.experiment,
            parent=run.run_id,
            folder=str(work_folder),
            seed=config.seed,
            stop_at=time.time() + stop_at - time.monotonic(),
            tags=dict(tags or {}),
        )
        entries = run_race(race, job, client, watch)
        if later_s:
            entries += _ensemble(entries, race, job, client, started + config.budget_s - CLOSING_S)
            watch(entries, len(entries))
        return _conclude(entries, race, run, config)


def _can_be_weighed(ref: DatasetRef, config: SweepConfig, splits: Mapping[str, int]) -> bool:
    """Whether an ensemble is to be made of the trainings: of tables with a label, if there is time."""
    labelled_table = ref.problem.is_table and ref.problem.has_label
    enough = config.budget_s >= LEAST_BUDGET_S and splits.get("validation", 0) >= LEAST_ROWS
    return config.ensemble and labelled_table and enough


def _ensemble(
    entries: list[Entry], race: Race, job: SweepJob, client: MlflowClient, end_at: float
) -> list[Entry]:
    """The ensemble's entry; none where there is nothing to choose from."""
    best = ranked(entries, race.mode)[:MOST_MEMBERS]
    if len(best) < 2:
        return []
    return [run_last(race, job, best, len(entries) + 1, end_at, client)]


def _about(ref: DatasetRef, store: DatasetStore, config: SweepConfig, end_at: float) -> Characteristics:
    """What the data is like, read in a worker: however much there is, the budget is kept."""
    try:
        found: Characteristics = within(end_at, _read_about, ref, store.url, store.options)
    except Unavailable as error:
        raise InvalidData(
            f"No algorithm was trained within {config.budget_s} s",
            where=f"{ref} was still being read",
            mend="give the sweep more time",
        ) from error
    return found


def _read_about(ref: DatasetRef, store_url: str, store_options: dict[str, Any]) -> Characteristics:
    return characteristics(DatasetStore(store_url, store_options), ref)


def _conclude(entries: list[Entry], race: Race, run: TrackedRun, config: SweepConfig) -> StudyRef:
    """Rank what was trained, write it down, and name the winner."""
    best = ranked(entries, race.mode)
    missed = [entry for entry in entries if entry.score is None]
    board = make_board(race.metric.removeprefix("validation_"), race.mode == "max", [*best, *missed])
    write_board(run.client, run.run_id, board)
    told = [f"{entry.algorithm}: {entry.error}" for entry in missed]
    trained = len({entry.algorithm for entry in best} - {ENSEMBLE})
    searched = sum(bool(entry.attempt.point) for entry in best)
    reason = "all algorithms tried"
    if missed:
        reason = f"{trained} of {len(race.order)} algorithms trained; {'; '.join(told)}"
    run.tag({END_REASON_TAG: reason})
    if not best or best[0].run is None:
        raise InvalidData(
            f"No algorithm was trained within {config.budget_s} s",
            where="; ".join(told),
            mend="give the sweep more time" if time.monotonic() >= race.stop_at - 1 else "correct that",
        )
    winner = best[0].run
    run.tag({BEST_RUN_TAG: winner.run_id, BEST_ALGORITHM_TAG: winner.algorithm})
    run.metrics(
        {f"best_{race.metric}": best[0].score or 0.0, "algorithms": trained, "search_points": searched}
    )
    return StudyRef(
        run_id=run.run_id, experiment=config.experiment, trials=len(entries), best=winner, end_reason=reason
    )


def _slots() -> int:
    there = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
    if there < 1:
        raise InvalidSettings("Ray has no CPU slot", mend="give the Ray cluster block at least one CPU")
    return there
