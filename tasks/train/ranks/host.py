"""On a Dask worker: the one rank that it hosts. Called by the driver through `Client.run`, quick to answer.

A worker belongs to one job at a time. The driver's calls keep the claim alive: where they stay away, the
rank is killed and the worker is free again, so that no driver's death keeps a worker.
"""

from __future__ import annotations

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
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEASE_S = 30.0
ROOT = Path(__file__).parents[3]
_TAIL_BYTES = 20_000


@dataclass(frozen=True)
class Polled:
    """How a rank stands.

    Attributes:
        said: What it told since the last time.
        silent_s: Time since it last gave a sign of life.
        code: Its exit code, negative for a signal; None while it runs.
        outcome: What it left when it ended, pickled by `child`; None where it left nothing.
        tail: The end of its output, once it has ended.
    """

    said: list[Any]
    silent_s: float
    code: int | None
    outcome: bytes | None
    tail: str


@dataclass
class _Claim:
    """The job that this worker belongs to."""

    job: str
    used_at: float
    process: subprocess.Popen[bytes] | None = None
    folder: Path | None = None
    heard_at: float = 0.0
    said: list[Any] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


_claim: _Claim | None = None
_lock = threading.RLock()


def holder() -> str:
    """The job that this worker belongs to; empty where it is free."""
    with _lock:
        return _claim.job if _claim is not None else ""


def claim(job: str) -> bool:
    """Take this worker for a job; says whether it was free."""
    global _claim
    with _lock:
        if _claim is not None:
            return False
        _claim = _Claim(job, time.monotonic())
    threading.Thread(target=_watch, args=(_claim,), name="rank-lease", daemon=True).start()
    return True


def start(job: str, function: bytes, environment: Mapping[str, str]) -> None:
    """Start the rank of a job that claimed this worker.

    Args:
        job: The job.
        function: What `child` runs, pickled.
        environment: Variables besides those of the worker.
    """
    from tasks.train.ranks.child import SPECIFICATION

    mine = _of(job)
    folder = Path(tempfile.mkdtemp(prefix="trainyard-rank-"))
    (folder / SPECIFICATION).write_bytes(function)
    reading, writing = os.pipe()
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.train.ranks.child", str(folder), str(writing), str(os.getpid())],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            pass_fds=(writing,),
            start_new_session=True,
        )
    os.close(writing)
    mine.process, mine.folder, mine.heard_at = process, folder, time.monotonic()
    threading.Thread(target=_hear, args=(mine, reading), name="rank-words", daemon=True).start()


def poll(job: str) -> Polled:
    """How the rank of a job stands."""
    from tasks.train.ranks.child import RESULT

    mine = _of(job)
    assert mine.process is not None
    assert mine.folder is not None
    code = mine.process.poll()
    with mine.lock:
        said, mine.said = mine.said, []
        silent_s = time.monotonic() - mine.heard_at
    if code is None:
        return Polled(said, silent_s, None, None, "")
    result, output = mine.folder / RESULT, mine.folder / "output.log"
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - _TAIL_BYTES))
        tail = file.read().decode(errors="replace")
    return Polled(said, silent_s, code, result.read_bytes() if result.exists() else None, tail)


def say(job: str, word: str) -> None:
    """Say a word to the rank of a job: see `rank.Wishes`."""
    mine = _of(job)
    assert mine.process is not None
    assert mine.process.stdin is not None
    with contextlib.suppress(OSError):  # it has ended
        mine.process.stdin.write(word.encode() + b"\n")
        mine.process.stdin.flush()


def release(job: str) -> None:
    """End the rank of a job, if it runs, and free this worker."""
    global _claim
    with _lock:
        if _claim is None or _claim.job != job:
            return
        mine, _claim = _claim, None
    _end(mine)


def _of(job: str) -> _Claim:
    with _lock:
        if _claim is None or _claim.job != job:
            raise LookupError(f"this worker belongs to {_claim.job if _claim else 'no job'}, not to {job}")
        _claim.used_at = time.monotonic()
        return _claim


def _end(mine: _Claim) -> None:
    if mine.process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(mine.process.pid, signal.SIGKILL)
        mine.process.wait()
        assert mine.process.stdin is not None
        with contextlib.suppress(OSError):
            mine.process.stdin.close()
    if mine.folder is not None:
        shutil.rmtree(mine.folder, ignore_errors=True)


def _hear(mine: _Claim, descriptor: int) -> None:
    """Take in what the rank says until it ends."""
    with open(descriptor, "rb") as lines:
        for line in lines:
            message = json.loads(line)
            with mine.lock:
                mine.heard_at = time.monotonic()
                if "said" in message:
                    mine.said.append(message["said"])


def _watch(mine: _Claim) -> None:
    """Free the worker when the driver stays away."""
    while True:
        time.sleep(LEASE_S / 10)
        with _lock:
            if _claim is not mine:
                return
            if time.monotonic() - mine.used_at < LEASE_S:
                continue
        release(mine.job)
        return
