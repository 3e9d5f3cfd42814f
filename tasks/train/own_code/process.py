"""A program run by the keeper: started, followed, asked to end; nothing of it is left afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.data.memory import installed_memory_bytes
from tasks.errors import Unavailable
from tasks.train.own_code.config import Limits

KEEPER = "tasks.train.own_code.keeper"
ROOT = Path(__file__).parents[3]
"""The folder that this project is imported from."""
POLL_S = 0.1
_MARKS = ("PREFECT__FLOW_RUN_ID", "TRAINYARD_STACK_ID")
"""Variables by which the stack's reaper finds what belongs to a flow run; no secrets."""

Reason = Literal["ended", "stopped", "time", "memory", "processes", "output", "disk", "lost"]


@dataclass(frozen=True)
class Ending:
    """How a program ended.

    Attributes:
        reason: `ended` by itself, or what ended it; `lost` where it was killed together with its init.
        code: Its exit code, or the negated number of the signal that ended it; None if it was killed at
            a limit.
        wall_s: Seconds that it ran.
        peak_bytes: Largest memory of all its processes together that was seen.
        peak_processes: Most processes that were seen at a time.
        output_bytes: What it wrote to its outputs.
        separate: Whether it had process numbers of its own.
    """

    reason: Reason
    code: int | None
    wall_s: float
    peak_bytes: int
    peak_processes: int
    output_bytes: int
    separate: bool


@dataclass(frozen=True)
class Program:
    """What to run.

    Attributes:
        command: Absolute path of the program, and its arguments.
        environment: All of its variables.
        folder: Where it is started.
        log: Where its outputs go; appended to.
        scratch: Folder for the keeper's own files.
        remove: Folders that go when the flow process dies.
        written_to: Folders that count towards the disk limit.
        limits: What it may use.
        max_time_s: When it is asked to end; None for never.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    scratch: Path
    remove: Sequence[Path]
    written_to: Sequence[Path]
    limits: Limits
    max_time_s: float | None = None


def run(
    program: Program,
    follow: Callable[[bytes], None],
    should_stop: Callable[[], bool],
    *,
    namespaces: bool = True,
) -> Ending:
    """Run a program to its end.

    Args:
        program: What to run.
        follow: Called several times a second with the output that is new, which may be nothing; what it
            raises ends the program.
        should_stop: Asked as often; True asks the program to end.
        namespaces: Whether to use the kernel's namespaces where it has them.

    Raises:
        Unavailable: The keeper itself was killed.
    """
    program.scratch.mkdir(parents=True, exist_ok=True)
    result = program.scratch / "result.json"
    result.unlink(missing_ok=True)
    asked = False
    with _kept(program, result, namespaces) as keeper, _tail(program.log) as tail:
        while True:
            # What was written before the end is known is in the log by then.
            over = result.exists() or keeper.poll() is not None
            new = tail()
            follow(new)
            if over:
                while new:  # whatever it wrote faster than it was read; the end says why it failed
                    new = tail()
                    follow(new)
                break
            if not asked and should_stop():
                asked = True
                _say(keeper, b"stop\n")
            time.sleep(POLL_S)
        if not result.exists():
            said = (program.scratch / "keeper.log").read_text(errors="replace").strip().splitlines()
            raise Unavailable(
                "the process that watches over the code was killed",
                where=said[-1] if said else "",
                mend="start the training again; look for other processes that use up the memory",
            )
        return Ending(**json.loads(result.read_text()))


@contextmanager
def _kept(program: Program, result: Path, namespaces: bool) -> Iterator[subprocess.Popen[bytes]]:
    """The keeper as a child; when the block ends, so does all that it keeps."""
    limits = program.limits
    # In memory alone: among the variables may be the password of a package index.
    with os.fdopen(os.memfd_create("program"), "w") as spec:
        json.dump(
            {
                "command": list(program.command),
                "environment": dict(program.environment),
                "folder": str(program.folder),
                "log": str(program.log),
                "result": str(result),
                "remove": [str(folder) for folder in program.remove],
                "written_to": [str(folder) for folder in program.written_to],
                "grace_s": limits.stop_grace_s,
                "parent": os.getpid(),
                "namespaces": namespaces,
                "limits": {
                    "time_s": program.max_time_s,
                    "memory_bytes": int(memory_bytes(limits)),
                    "processes": limits.processes,
                    "output_bytes": int(limits.output_mib * 2**20),
                    "disk_bytes": int(limits.disk_gib * 2**30),
                },
            },
            spec,
        )
        spec.flush()
        keeper = _started(spec.fileno(), program)
    try:
        yield keeper
    except BaseException:
        # The end of its input tells the keeper to end everything at once and to remove the folders.
        assert keeper.stdin is not None
        with contextlib.suppress(OSError):
            keeper.stdin.close()
        _wait(keeper)
        raise
    _say(keeper, b"done\n")
    assert keeper.stdin is not None
    _wait(keeper)
    with contextlib.suppress(OSError):
        keeper.stdin.close()


def _started(spec: int, program: Program) -> subprocess.Popen[bytes]:
    """The keeper; its last argument only says whose it is to those who look at processes."""
    marks = {name: os.environ[name] for name in _MARKS if name in os.environ}
    with (program.scratch / "keeper.log").open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-E", "-s", "-S", "-m", KEEPER, str(spec), str(program.scratch)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
            env={"PATH": os.environ.get("PATH", os.defpath), **marks},
            pass_fds=(spec,),
            start_new_session=True,  # a cancelled flow run's group is killed; this ends in good order
        )


def _wait(keeper: subprocess.Popen[bytes]) -> None:
    try:
        keeper.wait(30)
    except subprocess.TimeoutExpired:  # its children die with it where they have namespaces
        keeper.kill()
        keeper.wait()


def _say(keeper: subprocess.Popen[bytes], word: bytes) -> None:
    assert keeper.stdin is not None
    with contextlib.suppress(OSError):
        keeper.stdin.write(word)
        keeper.stdin.flush()


@contextmanager
def _tail(path: Path) -> Iterator[Callable[[], bytes]]:
    """What is new in a growing file, at most 1 MiB at a time."""
    path.touch(0o600)
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)

        def new() -> bytes:
            return file.read(2**20)

        yield new


def memory_bytes(limits: Limits) -> float:
    """The memory limit: as set, or four fifths of what this machine or container has."""
    if limits.memory_gib is not None:
        return limits.memory_gib * 2**30
    return 0.8 * installed_memory_bytes()


def remove(folder: Path) -> None:
    """Remove a folder that user code wrote to, whatever rights it gave to what is inside."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for inner, _, _ in os.walk(folder):
            with contextlib.suppress(OSError):
                os.chmod(inner, 0o700)
        shutil.rmtree(folder, ignore_errors=True)
