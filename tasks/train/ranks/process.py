"""The process of one rank, as the Dask worker that hosts it has it: started, heard, told and ended."""

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
OUTCOME, RESULT = "outcome.pickle", "result.pickle"
_OUTPUT = "output.log"
_TAIL_BYTES = 20_000
_KILLED_S = 5.0


@dataclass(frozen=True)
class Share:
    """What a rank has of its host's processors.

    Attributes:
        number: Of the rank on its host, from 0.
        ranks: Of its job on its host.
        threads: Of each.
    """

    number: int
    ranks: int
    threads: int

    def of(self, processors: Sequence[int]) -> Sequence[int]:
        """Those that are its own; none where the ranks do not fill the host exactly.

        Ranks that fill it wait for each other at each step. Where one of their threads makes room for some
        other process, the kernel may put it beside a thread of another rank, and both are late: bound to
        processors of their own (MPI's `--bind-to core`) they are not.
        """
        if self.ranks < 2 or self.ranks * self.threads != len(processors):
            return ()
        return processors[self.number * self.threads : (self.number + 1) * self.threads]


@dataclass
class RankProcess:
    """The process of a rank.

    Attributes:
        folder: Its output and its result.
        heard_at: When it last gave a sign of life, of the monotonic clock.
    """

    process: subprocess.Popen[bytes]
    folder: Path
    heard_at: float
    _hearing: threading.Thread | None = None
    _said: list[Any] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def start(cls, function: bytes, environment: Mapping[str, str], share: Share | None) -> RankProcess:
        """Start it: see `host.start`."""
        folder = Path(tempfile.mkdtemp(prefix="trainyard-rank-"))
        reading, writing = os.pipe()
        try:
            process = _started(function, folder, writing, environment)
        except BaseException:
            os.close(reading)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if share is not None and (processors := share.of(sorted(os.sched_getaffinity(0)))):
            with contextlib.suppress(OSError):  # it has ended, or may not be bound here
                os.sched_setaffinity(process.pid, processors)
        rank = cls(process, folder, time.monotonic())
        rank._hearing = threading.Thread(target=rank._hear, args=(reading,), name="rank-words", daemon=True)
        rank._hearing.start()
        return rank

    def say(self, *words: str) -> None:
        """Tell it words, each in a line."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended
            self.process.stdin.write("".join(f"{word}\n" for word in words).encode())
            self.process.stdin.flush()

    def heard(self) -> tuple[list[Any], float]:
        """What it told since the last time, and for how long it has given no sign of life, in seconds."""
        if self.process.poll() is not None and self._hearing is not None:
            self._hearing.join(2)  # its last words; something that it left behind may hold the pipe open
        with self._lock:
            said, self._said = self._said, []
            return said, time.monotonic() - self.heard_at

    def outcome(self) -> bytes | None:
        """How it ended, pickled by `child`; None where it left no word."""
        path = self.folder / OUTCOME
        return path.read_bytes() if path.exists() else None

    def result_bytes(self) -> int:
        """Size of what its function returned."""
        path = self.folder / RESULT
        return path.stat().st_size if path.exists() else 0

    def part(self, offset: int, size: int) -> bytes:
        """A part of what its function returned."""
        with (self.folder / RESULT).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def tail(self) -> str:
        """The end of its output."""
        path = self.folder / _OUTPUT
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")

    def kill(self) -> None:
        """End it with all that it started in its session, and remove its folder."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel
                self.process.wait(_KILLED_S)
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _hear(self, descriptor: int) -> None:
        """Take in what it says until it ends."""
        with open(descriptor, "rb") as lines:
            for line in lines:
                try:
                    message = json.loads(line)
                except ValueError:  # it was killed while it said this
                    continue
                with self._lock:
                    self.heard_at = time.monotonic()
                    if "said" in message:
                        self._said.append(message["said"])


def _started(
    function: bytes, folder: Path, writing: int, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    with (
        os.fdopen(writing, "wb") as saying,
        os.fdopen(os.memfd_create("function"), "wb") as handed,
        (folder / _OUTPUT).open("wb") as output,
    ):
        handed.write(function)
        handed.flush()
        numbers = [str(number) for number in (handed.fileno(), saying.fileno(), os.getpid())]
        return subprocess.Popen(
            [sys.executable, "-m", "tasks.train.ranks.child", str(folder), *numbers],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**_variables(), **environment},
            pass_fds=(handed.fileno(), saying.fileno()),
            start_new_session=True,
        )


def _variables() -> dict[str, str]:
    """This worker's, but for the one that Dask gives its workers to keep little memory.

    In a rank it would hand the memory of each step back to the kernel, to have it zeroed for the next.
    """
    return {name: value for name, value in os.environ.items() if name != "MALLOC_TRIM_THRESHOLD_"}
