"""On a Dask worker: the one rank that it hosts. Called by the driver through `Client.run`, quick to answer.

A worker belongs to one job at a time. Where the scheduler knows that the driver is gone, or the driver's
calls stay away, the rank is killed and the worker is free again, so that no driver's death keeps a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.train.ranks.process import RankProcess, Share

LEASE_S = 90.0
"""How long a claim holds without a call: longer than a driver is busy with what a rank told it."""
WATCH_S = 4.0
"""Time between two looks at whether the driver is still there."""
PART_BYTES = 16 * 2**20
ALIVE = "alive"
"""The word that tells a rank with each call that there is a driver."""


@dataclass(frozen=True)
class Polled:
    """How a rank stands.

    Attributes:
        said: What it told since the last time.
        silent_s: Time since it last gave a sign of life.
        code: Its exit code, negative for a signal; None while it runs.
        outcome: How it ended, pickled by `child`; None where it left no word.
        result_bytes: Size of what its function returned.
        tail: The end of its output, once it has ended.
    """

    said: list[Any]
    silent_s: float
    code: int | None = None
    outcome: bytes | None = None
    result_bytes: int = 0
    tail: str = ""


@dataclass
class _Claim:
    """The job that this worker belongs to."""

    job: str
    used_at: float
    rank: RankProcess | None = None


_claim: _Claim | None = None
_lock = threading.RLock()


def holder() -> str:
    """The job that this worker belongs to; empty where it is free."""
    with _lock:
        return _claim.job if _claim is not None else ""


def claim(job: str, driver: str, dask_worker: Any = None) -> bool:
    """Take this worker for a job; says whether it is the job's.

    Args:
        job: The job.
        driver: Its Dask client.
        dask_worker: This worker; Dask gives it.
    """
    global _claim
    with _lock:
        if _claim is not None and _claim.job != job:
            return False
        if _claim is not None:
            _claim.used_at = time.monotonic()
            return True
        _claim = _Claim(job, time.monotonic())
    watch = threading.Thread(
        target=_watch, args=(_claim, driver, dask_worker), name="rank-lease", daemon=True
    )
    watch.start()
    return True


def start(job: str, function: bytes, environment: Mapping[str, str], share: Share | None = None) -> None:
    """Start the rank of a job that claimed this worker.

    Args:
        job: The job.
        function: What `child` runs, pickled. It is handed over in memory: there may be secrets in it.
        environment: Variables besides those of the worker.
        share: Its part of the host's processors; None where that is not to be looked at.
    """
    end(job)  # a worker that was given up, and has come back, may have the job's last one
    _of(job).rank = RankProcess.start(function, environment, share)


def poll(job: str, wishes: Sequence[str] = ()) -> Polled:
    """How the rank of a job stands.

    Args:
        job: The job.
        wishes: What it is told each time: see `rank.Wishes`.
    """
    rank = _rank_of(job)
    code = rank.process.poll()
    if code is None:
        rank.say(ALIVE, *wishes)
        return Polled(*rank.heard())
    return Polled(*rank.heard(), code, rank.outcome(), rank.result_bytes(), rank.tail())


def part(job: str, offset: int) -> bytes:
    """A part of what the function of a rank returned, pickled, from an offset on."""
    return _rank_of(job).part(offset, PART_BYTES)


def end(job: str) -> None:
    """End the rank of a job, and keep this worker for the job."""
    mine = _of(job)
    rank, mine.rank = mine.rank, None
    if rank is not None:
        rank.kill()


def release(job: str) -> None:
    """End the rank of a job, if it runs, and free this worker."""
    global _claim
    with _lock:
        if _claim is None or _claim.job != job:
            return
        mine, _claim = _claim, None
    if mine.rank is not None:
        mine.rank.kill()


def _of(job: str) -> _Claim:
    with _lock:
        if _claim is None or _claim.job != job:
            raise LookupError(f"this worker belongs to {_claim.job if _claim else 'no job'}, not to {job}")
        _claim.used_at = time.monotonic()
        return _claim


def _rank_of(job: str) -> RankProcess:
    rank = _of(job).rank
    if rank is None:
        raise LookupError(f"no rank of {job} was started here")
    return rank


def _watch(mine: _Claim, driver: str, worker: Any) -> None:
    """Free the worker when the driver is gone; keep the folder of a rank that goes on looking used."""
    while True:
        time.sleep(WATCH_S)
        with _lock:
            if _claim is not mine:
                return
            away = time.monotonic() - mine.used_at >= LEASE_S
        if away or _has_left(driver, worker):
            release(mine.job)
            return
        if mine.rank is not None:
            with contextlib.suppress(OSError):
                os.utime(mine.rank.folder)


def _has_left(driver: str, worker: Any) -> bool:
    """Whether the scheduler has seen a client go: it notices a killed one at once, a lost host in time."""
    try:
        asking = asyncio.wait_for(worker.scheduler.events(topic=driver), WATCH_S)
        asked = asyncio.run_coroutine_threadsafe(asking, worker.loop.asyncio_loop)
        events = [event for _, event in asked.result(2 * WATCH_S)]
    except Exception:  # no answer says nothing of the driver
        return False
    return bool(events) and events[-1].get("action") == "remove-client"
