"""Trainings of a sweep as Ray tasks, so many at a time, until all are done or the time is up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import ray

from tasks.errors import InvalidSettings, NotFound, TrainyardError, Unavailable
from tasks.refs import RunRef
from tasks.sweep.plan import ENSEMBLE, Attempt, next_search
from tasks.sweep.recommend import Recommendation
from tasks.sweep.trial import HeldOut, SweepJob, Trained, run_attempt, run_ensemble
from tasks.train.tags import PARENT_TAG, STATUS_TAG, TRIAL_TAG
from tasks.train.train import find_run
from tasks.tune.points import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

POLL_S = 0.5
"""Ray is asked this often, so that a cancelled run is not held up by a blocking wait."""
ENDING_S = 1.0
"""What it takes at most to see processes end that were told to."""


@dataclass(frozen=True)
class Entry:
    """How one training of a sweep did.

    Attributes:
        attempt: What was trained.
        run: Its MLflow run; None where there is no model.
        score: What it is ranked by.
        error: Why there is no score; empty if there is.
        took_s: From its start in Ray to its end.
        held_out: See `Trained.held_out`.
        metrics: Those of its run.
    """

    attempt: Attempt
    run: RunRef | None = None
    score: float | None = None
    error: str = ""
    took_s: float = 0.0
    held_out: dict[str, HeldOut] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def algorithm(self) -> str:
        return self.attempt.algorithm


Watch = Callable[[list[Entry], int], None]
"""Hears of the entries so far, and of how many there will be, whenever one ends."""


@dataclass(frozen=True)
class Race:
    """What is run, and until when.

    Attributes:
        order: Algorithms, the most promising first; each is trained with its defaults.
        points: Points that an algorithm may be tried with after that.
        limit: Trainings of the best algorithm at most.
        parallel: Trainings at the same time.
        metric: What is compared.
        mode: `max` or `min`.
        stop_at: Value of `time.monotonic()` when fits end, and none begins.
        end_at: The same for the processes.
    """

    order: list[Recommendation]
    points: dict[str, list[Point]]
    limit: int
    parallel: int
    metric: str
    mode: str
    stop_at: float
    end_at: float


def run_race(race: Race, job: SweepJob, client: MlflowClient, watch: Watch) -> list[Entry]:
    """Keep `race.parallel` trainings running.

    Returns:
        One entry for each that began, and for each algorithm that did not.
    """
    waiting = [Attempt(place, one.algorithm, one.reason) for place, one in enumerate(race.order, start=1)]
    points = {name: list(some) for name, some in race.points.items()}
    running: dict[Any, tuple[Attempt, float]] = {}
    entries: list[Entry] = []
    begun: Counter[str] = Counter()
    while True:
        while len(running) < race.parallel and time.monotonic() < race.stop_at - 1:
            attempt = waiting.pop(0) if waiting else _search(race, entries, begun, points)
            if attempt is None:
                break
            begun[attempt.algorithm] += 1
            # Those that are still to come get their share of the time: the slowest must not take all.
            rounds = -(-(len(waiting) + 1 + len(running)) // race.parallel)
            share_s = max(1.0, (race.stop_at - time.monotonic()) / (rounds if waiting else 1))
            running[_attempt.remote(job, attempt, share_s)] = (attempt, time.monotonic())
        if not running:
            break
        left_s = race.end_at - time.monotonic()
        done, _ = ray.wait(list(running), timeout=max(0.0, min(POLL_S, left_s)))
        for future in done:
            entries.append(_entry(future, *running.pop(future), client, race.metric))
            watch(entries, sum(begun.values()) + len(waiting))
        if time.monotonic() >= race.end_at:
            break
    entries += end_all(running, client, job.parent, race.metric)
    entries += [Entry(one, error="not started: out of time") for one in waiting]
    watch(entries, len(entries))
    return entries


def run_last(
    race: Race, job: SweepJob, best: list[Entry], number: int, end_at: float, client: MlflowClient
) -> Entry:
    """Make an ensemble of the best trainings.

    Args:
        race: What was run.
        job: The sweep.
        best: The members to choose from, best first.
        number: The ensemble's, among the trainings of the sweep.
        end_at: Value of `time.monotonic()` when it is ended.
        client: MLflow.
    """
    attempt = Attempt(number, ENSEMBLE, f"weighs the {len(best)} best trainings by the validation rows")
    runs = [entry.run for entry in best if entry.run is not None]
    future = _ensemble.remote(job, attempt, best[0].attempt, runs)
    began = time.monotonic()
    while (left_s := end_at - time.monotonic()) > 0:
        if ray.wait([future], timeout=min(POLL_S, left_s))[0]:
            return _entry(future, attempt, began, client, race.metric)
    return end_all({future: (attempt, began)}, client, job.parent, race.metric)[0]


def ranked(entries: list[Entry], mode: str) -> list[Entry]:
    """Those that have a score, best first; of equals, the one that was begun first."""
    sign = -1.0 if mode == "max" else 1.0
    scored = [entry for entry in entries if entry.score is not None and entry.run is not None]
    return sorted(scored, key=lambda entry: (sign * (entry.score or 0.0), entry.attempt.number))


def _search(
    race: Race, entries: list[Entry], begun: Counter[str], points: dict[str, list[Point]]
) -> Attempt | None:
    """The next point of an algorithm that did well and, by what it took so far, can be done in time."""
    left_s = race.stop_at - time.monotonic()
    names: dict[str, float] = {}  # in the order of their best
    for entry in ranked(entries, race.mode):
        names[entry.algorithm] = min(entry.took_s, names.get(entry.algorithm, entry.took_s))
    name = next_search([one for one in names if points.get(one) and names[one] < left_s], begun, race.limit)
    if name is None:
        return None
    place = list(names).index(name) + 1
    reason = f"number {place} of the algorithms so far: another point of its search"
    return Attempt(sum(begun.values()) + 1, name, reason, points[name].pop(0))


@ray.remote(num_cpus=1, max_retries=0)
def _attempt(job: SweepJob, attempt: Attempt, share_s: float) -> Trained:
    return run_attempt(job, attempt, share_s)


@ray.remote(num_cpus=1, max_retries=0)
def _ensemble(job: SweepJob, attempt: Attempt, best: Attempt, runs: list[RunRef]) -> Trained:
    return run_ensemble(job, attempt, best, runs)


def _entry(future: Any, attempt: Attempt, began: float, client: MlflowClient, metric: str) -> Entry:
    took_s = time.monotonic() - began
    try:
        trained: Trained = ray.get(future)
    except ray.exceptions.RayTaskError as error:
        return Entry(attempt, error=str(error.cause or error).splitlines()[0][:400], took_s=took_s)
    except ray.exceptions.RayError as error:
        return Entry(attempt, error=f"its process ended: {type(error).__name__}", took_s=took_s)
    entry = _scored(attempt, trained.run, client.get_run(trained.run.run_id), metric)
    return replace(entry, took_s=took_s, held_out=trained.held_out)


def _scored(attempt: Attempt, ref: RunRef, run: Run, metric: str) -> Entry:
    score = run.data.metrics.get(f"best_{metric}")
    missed = "" if score is not None else f"reported no {metric}"
    return Entry(attempt, ref, score, missed, metrics=dict(run.data.metrics))


def end_all(
    running: dict[Any, tuple[Attempt, float]], client: MlflowClient, parent: str, metric: str
) -> list[Entry]:
    """End what still runs, and close its MLflow runs: the processes could not do it themselves.

    A training that had its model and was only being scored counts.
    """
    for future in running:
        ray.cancel(future, force=True)
    if running:
        ray.wait(list(running), num_returns=len(running), timeout=ENDING_S)
    experiment = client.get_run(parent).info.experiment_id
    nested = client.search_runs([experiment], f"tags.`{PARENT_TAG}` = '{parent}'")
    runs = {run.data.tags.get(TRIAL_TAG): run for run in nested}
    entries = []
    for attempt, began in running.values():
        run = runs.get(str(attempt.number))
        entry = Entry(attempt, error="out of time")
        if run is not None and run.info.status == "RUNNING":
            client.set_tag(run.info.run_id, STATUS_TAG, "aborted")
            client.set_terminated(run.info.run_id, "KILLED")
        elif run is not None:
            with suppress(NotFound, InvalidSettings):
                entry = _scored(attempt, find_run(client, run.info.run_id), run, metric)
        entries.append(replace(entry, took_s=time.monotonic() - began))
    return entries


def within(end_at: float, call: Callable[..., Any], *given: Any) -> Any:
    """What a call gives, made in a Ray worker so that it can be ended.

    Args:
        end_at: Value of `time.monotonic()` when it is.
        call: A function of a module.
        given: Its arguments.

    Raises:
        Unavailable: It was ended.
    """
    future = ray.remote(num_cpus=1, max_retries=0)(call).remote(*given)  # type: ignore[no-untyped-call]
    while not ray.wait([future], timeout=max(0.0, min(POLL_S, end_at - time.monotonic())))[0]:
        if time.monotonic() >= end_at:
            ray.cancel(future, force=True)
            raise Unavailable("the time was up", mend="give the sweep more time")
    try:
        return ray.get(future)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TrainyardError):
            raise error.cause from error
        raise
