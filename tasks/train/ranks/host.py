"""On a Dask worker: the one rank that it hosts. Called by the driver through `Client.run`, quick to answer.

A worker belongs to one job at a time. Where the scheduler knows that the driver is gone, or the driver's
calls stay away, the rank is killed and the worker is free again, so that no driver's death keeps a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEASE_S = 90.0
"""How long a claim holds without a call: longer than a driver is busy with what a rank told it."""
WATCH_S = 2.0
"""Time between two looks at whether the driver is still there."""
PART_BYTES = 16 * 2**20
ROOT = Path(__file__).parents[3]
OUTCOME, RESULT = "outcome.pickle", "result.pickle"
ALIVE = "alive"
"""The word that tells a rank with each call that there is a driver."""
_TAIL_BYTES = 20_000
_KILLED_S = 5.0


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
class _Process:
    """The process of a rank.

    Attributes:
        hearing: Takes in what it says, until it ends.
        folder: Its output and its result.
    """

    process: subprocess.Popen[bytes]
    folder: Path
    hearing: threading.Thread | None = None
    heard_at: float = 0.0
    said: list[Any] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class _Claim:
    """The job that this worker belongs to."""

    job: str
    used_at: float
    rank: _Process | None = None


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


def start(job: str, function: bytes, environment: Mapping[str, str]) -> None:
    """Start the rank of a job that claimed this worker.

    Args:
        job: The job.
        function: What `child` runs, pickled. It is handed over in memory: there may be secrets in it.
        environment: Variables besides those of the worker.
    """
    end(job)  # a worker that was given up, and has come back, may have the job's last one
    mine = _of(job)
    folder = Path(tempfile.mkdtemp(prefix="trainyard-rank-"))
    reading, writing = os.pipe()
    with (
        os.fdopen(os.memfd_create("function"), "wb") as handed,
        os.fdopen(writing, "wb") as saying,
        (folder / "output.log").open("wb") as output,
    ):
        handed.write(function)
        handed.flush()
        numbers = [str(number) for number in (handed.fileno(), saying.fileno(), os.getpid())]
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.train.ranks.child", str(folder), *numbers],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**_variables(), **environment},
            pass_fds=(handed.fileno(), saying.fileno()),
            start_new_session=True,
        )
    mine.rank = rank = _Process(process, folder, heard_at=time.monotonic())
    rank.hearing = threading.Thread(target=_hear, args=(rank, reading), name="rank-words", daemon=True)
    rank.hearing.start()


def _variables() -> dict[str, str]:
    """This worker's, but for the one that Dask gives its workers to keep little memory.

    In a rank it would hand the memory of each step back to the kernel, to have it zeroed for the next.
    """
    return {name: value for name, value in os.environ.items() if name != "MALLOC_TRIM_THRESHOLD_"}


def poll(job: str, wishes: Sequence[str] = ()) -> Polled:
    """How the rank of a job stands.

    Args:
        job: The job.
        wishes: What it is told each time: see `rank.Wishes`.
    """
    rank = _rank_of(job)
    code = rank.process.poll()
    if code is None:
        _say(rank, ALIVE, *wishes)
    elif rank.hearing is not None:
        rank.hearing.join(2)  # its last words; something that it left behind may hold the pipe open
    with rank.lock:
        said, rank.said = rank.said, []
        silent_s = time.monotonic() - rank.heard_at
    if code is None:
        return Polled(said, silent_s)
    outcome, result, output = rank.folder / OUTCOME, rank.folder / RESULT, rank.folder / "output.log"
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - _TAIL_BYTES))
        tail = file.read().decode(errors="replace")
    return Polled(
        said,
        silent_s,
        code,
        outcome.read_bytes() if outcome.exists() else None,
        result.stat().st_size if result.exists() else 0,
        tail,
    )


def part(job: str, offset: int) -> bytes:
    """A part of what the function of a rank returned, pickled, from an offset on."""
    with (_rank_of(job).folder / RESULT).open("rb") as file:
        file.seek(offset)
        return file.read(PART_BYTES)


def end(job: str) -> None:
    """End the rank of a job, and keep this worker for the job."""
    mine = _of(job)
    rank, mine.rank = mine.rank, None
    if rank is not None:
        _kill(rank)


def release(job: str) -> None:
    """End the rank of a job, if it runs, and free this worker."""
    global _claim
    with _lock:
        if _claim is None or _claim.job != job:
            return
        mine, _claim = _claim, None
    if mine.rank is not None:
        _kill(mine.rank)


def _of(job: str) -> _Claim:
    with _lock:
        if _claim is None or _claim.job != job:
            raise LookupError(f"this worker belongs to {_claim.job if _claim else 'no job'}, not to {job}")
        _claim.used_at = time.monotonic()
        return _claim


def _rank_of(job: str) -> _Process:
    rank = _of(job).rank
    if rank is None:
        raise LookupError(f"no rank of {job} was started here")
    return rank


def _say(rank: _Process, *words: str) -> None:
    assert rank.process.stdin is not None
    with contextlib.suppress(OSError):  # it has ended
        rank.process.stdin.write("".join(f"{word}\n" for word in words).encode())
        rank.process.stdin.flush()


def _kill(rank: _Process) -> None:
    if rank.process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(rank.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel
            rank.process.wait(_KILLED_S)
    assert rank.process.stdin is not None
    with contextlib.suppress(OSError):
        rank.process.stdin.close()
    shutil.rmtree(rank.folder, ignore_errors=True)


def _hear(rank: _Process, descriptor: int) -> None:
    """Take in what the rank says until it ends."""
    with open(descriptor, "rb") as lines:
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:  # it was killed while it said this
                continue
            with rank.lock:
                rank.heard_at = time.monotonic()
                if "said" in message:
                    rank.said.append(message["said"])


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
