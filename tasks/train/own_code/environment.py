"""The Python environment that the code runs in: the project's own, or one made from requirements.txt.

An environment is kept by what it is made from, beside others, and made once:

    environments/<key>           a link to the folder that is complete
    environments/<key>-<random>  the environment itself, where it was built: its scripts name this path
    environments/<key>.lock      held by who builds (exclusive) and by who uses it (shared)

It sees the project's packages behind its own, as the images of other platforms bring their frameworks:
a requirement that these meet already is not installed again.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import re
import secrets
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from tasks.errors import InvalidData, Unavailable
from tasks.home import home
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.contract import plain_environment
from tasks.train.own_code.process import Program, remove, run
from tasks.train.own_code.process_tree import size_of
from tasks.train.own_code.requirements import local_parts, pip_settings, setting_parts
from tasks.train.own_code.script import REQUIREMENTS, Import

MOST_KEPT = 10
MOST_BYTES = 30 * 2**30
LOOKING_S = 120
_PASSWORD = re.compile(r"//[^/\s]*@")
_PIP_OPTIONS = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--no-color")
_SAID = 15

Log = Callable[[str], None]


@contextmanager
def environment_for(
    own: OwnCode,
    requirements: bytes | None,
    source: Path,
    scratch: Path,
    log: Log,
    should_stop: Callable[[], bool],
) -> Iterator[Path]:
    """The Python to run the code with; its environment stays while the block lasts.

    Args:
        own: The settings.
        requirements: Content of requirements.txt; None takes the project's environment.
        source: The copy of the code, where pip is started.
        scratch: Folder for files of this run alone.
        log: Hears what is installed.
        should_stop: True ends an installation.

    Raises:
        InvalidData: pip cannot install the requirements; its last lines are said.
        Unavailable: The installation was stopped, or did not end in time.
    """
    if requirements is None:
        yield Path(sys.executable)
        return
    folder = home() / "environments"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = environment_key(requirements, source)
    pointer = folder / key
    with ExitStack() as stack:
        while True:
            stack.close()  # an earlier lock of this very process would be waited for
            lock = stack.enter_context((folder / f"{key}.lock").open("a"))
            _lock(lock.fileno(), fcntl.LOCK_SH, should_stop)
            if _is_there(lock.fileno(), folder / f"{key}.lock") and (pointer / "bin" / "python").exists():
                break
            _lock(lock.fileno(), fcntl.LOCK_EX, should_stop)
            if not _is_there(lock.fileno(), folder / f"{key}.lock"):  # swept while this one waited
                continue
            if not (pointer / "bin" / "python").exists():
                log(f"Installing {REQUIREMENTS} into an environment of its own; it is kept for the next time")
                _build(own, folder, key, source, scratch, log, should_stop)
        os.utime(lock.fileno())
        sweep(folder)
        yield Path(os.path.realpath(pointer)) / "bin" / "python"


def environment_key(requirements: bytes, source: Path) -> str:
    """What an environment is made from, as 24 hex digits: passwords of an index count, and cannot be read."""
    total = hashlib.sha256()
    settings = pip_settings()
    lines = sorted(line.strip() for line in requirements.splitlines() if line.strip()[:1] not in (b"", b"#"))
    host = (sys.version, sysconfig.get_platform(), _own_packages(), setting_parts(settings))
    total.update(repr((lines, host)).encode())
    for part in local_parts(requirements, source, settings):
        total.update(repr(part).encode())
    return total.hexdigest()[:24]


@cache
def _own_packages() -> tuple[str, ...]:
    """What the project's environment holds, which an environment sees behind its own."""
    return tuple(sorted(f"{one.name}=={one.version}" for one in importlib.metadata.distributions()))


def sweep(folder: Path, most: int = MOST_KEPT, most_bytes: int = MOST_BYTES) -> list[str]:
    """Remove the environments that were not used for longest, past a number and a size.

    Those in use stay. Returns the keys of those removed.
    """
    used: dict[Path, float] = {}
    for path in folder.glob("*.lock"):
        with suppress(FileNotFoundError):  # another sweeper was faster
            used[path] = path.stat().st_mtime
    locks = sorted(used, key=used.__getitem__, reverse=True)
    kept_bytes, removed = 0, []
    for place, path in enumerate(locks):
        pointer = path.with_suffix("")
        size_file = pointer.with_suffix(".size")
        with suppress(FileNotFoundError, ValueError):
            kept_bytes += int(size_file.read_text())
        if place < most and kept_bytes <= most_bytes:
            continue
        with suppress(BlockingIOError, FileNotFoundError), path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_there(lock.fileno(), path):
                continue
            pointer.unlink(missing_ok=True)
            for built in folder.glob(f"{pointer.name}-*"):
                remove(built)
            size_file.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            removed.append(pointer.name)
    return removed


def missing_in(python: Path, imports: tuple[Import, ...]) -> list[Import]:
    """The imports that an environment cannot meet."""
    names = sorted({needed.module for needed in imports})
    program = (
        "import importlib.util as u, sys\n"
        "for n in sys.argv[1:]:\n"
        "    try: found = u.find_spec(n)\n"
        "    except Exception: found = None\n"
        "    if found is None: print(n)\n"
    )
    try:
        done = subprocess.run(
            [str(python), "-P", "-c", program, *names],
            env=plain_environment(),
            capture_output=True,
            text=True,
            timeout=LOOKING_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(
            f"the environment of the code did not say within {LOOKING_S} s what it holds",
            where=str(python),
            mend="look for packages in requirements.txt that do work when Python starts; then start it again",
        ) from None
    lacking = set(done.stdout.split())
    return [needed for needed in imports if needed.module in lacking]


def _is_there(file: int, path: Path) -> bool:
    """Whether an open lock is the one at its path; a sweeper may have removed it, and another made one."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: int, kind: int, should_stop: Callable[[], bool]) -> None:
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if should_stop():
                raise Unavailable(
                    "the training was stopped while it waited for its environment", mend="start it again"
                ) from None
            time.sleep(0.2)


def _build(
    own: OwnCode,
    folder: Path,
    key: str,
    source: Path,
    scratch: Path,
    log: Log,
    should_stop: Callable[[], bool],
) -> None:
    """Make an environment beside the others and point to it when it is complete."""
    for left in folder.glob(f"{key}-*"):  # of a builder that was killed: the lock is ours
        remove(left)
    built = folder / f"{key}-{secrets.token_hex(4)}"
    try:
        _install(own, built, source, scratch, log, should_stop)
        (folder / f"{key}.size").write_text(str(size_of([str(built)])))
        aside = folder / f"{built.name}.link"
        aside.symlink_to(built.name)
        aside.rename(folder / key)
    except BaseException:
        remove(built)
        raise


def _install(
    own: OwnCode, built: Path, source: Path, scratch: Path, log: Log, should_stop: Callable[[], bool]
) -> None:
    import venv

    venv.EnvBuilder(symlinks=True, with_pip=False).create(built)
    packages = next(built.glob("lib/python*/site-packages"))
    # Comes after the environment's own packages on the path. Of the project itself, which is installed
    # by a finder and not as files, the code sees nothing.
    (packages / "trainyard-base.pth").write_text(sysconfig.get_path("purelib") + "\n")
    output = scratch / "pip.log"
    python = str(built / "bin" / "python")
    ending = run(
        Program(
            command=[
                *(sys.executable, "-m", "pip", "--python", python, "install"),
                *(*_PIP_OPTIONS, "-r", REQUIREMENTS),
            ],
            environment={**plain_environment(), **pip_settings(), "TMPDIR": str(scratch)},
            folder=source,
            log=output,
            scratch=scratch / "pip",
            remove=[built, scratch],
            written_to=[built, scratch],
            limits=own.limits,
            max_time_s=own.limits.install_time_s,
        ),
        lambda new: None,
        should_stop,
    )
    said = _PASSWORD.sub("//****@", output.read_text(errors="replace"))
    output.unlink()  # the code has its temporary files in the same folder
    lines = [line for line in said.splitlines() if line.strip()]
    if ending.reason == "stopped":
        raise Unavailable("the training was stopped while packages were installed", mend="start it again")
    if ending.reason == "time":
        raise Unavailable(
            f"{REQUIREMENTS} was not installed within {own.limits.install_time_s} s",
            where=" / ".join(lines[-3:]),
            mend="pin the versions, so that pip need not search, or raise limits.install_time_s",
        )
    if ending.reason != "ended" or ending.code:
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
        raise InvalidData(
            f"pip cannot install {REQUIREMENTS}: {errors[0] if errors else _cause(ending.reason, lines)}",
            where="the last lines of pip: " + " / ".join(lines[-_SAID:]),
            mend=f"correct {REQUIREMENTS}; this host's own pip configuration is used",
        )
    done = next((line for line in reversed(lines) if line.startswith("Successfully installed")), "")
    log(done or f"Everything in {REQUIREMENTS} was there already")


def _cause(reason: str, lines: list[str]) -> str:
    if reason != "ended":
        return f"it was ended at the limit of {reason}"
    return lines[-1] if lines else "it said nothing"
