"""The folder that one training works in: locked while it does, and what is left of it afterwards.

<digest>/        checkpoints and the like, while it runs or after a kill; where the user has chosen the
                 place, checkpoints/ (of own code own_code/checkpoints/) and kept.json, which names the run,
                 stay
<digest>.lock    held by the process that works there
<digest>.json    the result, for equal trainings that waited
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.refs import RunRef

FINISHED_KEPT_S = 24 * 3600
_OURS = re.compile(r"[0-9a-f]{24}")
"""Names of work folders."""
CHECKPOINTS = "checkpoints"
OWN_CHECKPOINTS = "own_code/checkpoints"
"""Those that own code wrote."""
RUN_FILE = "run.json"
"""Names the MLflow run of a training that has not ended."""
KEPT_FILE = "kept.json"
"""Names the MLflow run whose checkpoints were kept: another name, since that run is not taken up again."""


@contextmanager
def alone(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a work folder, so that no equal training writes there; the lock ends with the process.

    Args:
        folder: The folder; need not be there.
        waiting: Called when another process holds it, before waiting for that.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire(poll_interval=0.5)
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # one who waits for it makes it anew
        lock.release()


def note_finished(folder: Path, run: RunRef, *, keep_checkpoints: bool) -> None:
    """Put the result in place of the work folder, for those that wait, and drop results that none awaits."""
    path = folder.with_suffix(".json")
    aside = folder.with_suffix(".partial")
    aside.write_text(run.model_dump_json())
    aside.rename(path)
    drop(folder, keep_checkpoints=keep_checkpoints)
    for old in folder.parent.glob("*.json"):
        # The folder may be one of the user's, with other files; and another training may be faster.
        with suppress(FileNotFoundError):
            if _OURS.fullmatch(old.stem) and time.time() - old.stat().st_mtime > FINISHED_KEPT_S:
                old.unlink()


def finished_since(folder: Path, started: datetime | None) -> RunRef | None:
    """The result of an equal training that ended after this one had looked for a stored result.

    An older result does not count: the step cache has refused it, or was told not to look.

    Args:
        folder: The work folder.
        started: When this training began to look; None where that is not known.
    """
    path = folder.with_suffix(".json")
    if started is None or not path.exists() or path.stat().st_mtime < started.timestamp():
        return None
    return RunRef.model_validate_json(path.read_bytes())


def drop(folder: Path, *, keep_checkpoints: bool) -> None:
    """Remove a work folder; checkpoints stay where the user has chosen their place, with their run's id."""
    places = [folder / CHECKPOINTS, folder / OWN_CHECKPOINTS] if keep_checkpoints else []
    kept = {place for place in places if place.is_dir() and any(place.iterdir())}
    if kept:
        if (folder / RUN_FILE).is_file():
            (folder / RUN_FILE).replace(folder / KEPT_FILE)
        kept.add(folder / KEPT_FILE)
    _clear(folder, kept)


def _clear(folder: Path, kept: set[Path]) -> None:
    """Remove a folder but for some paths below it."""
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        if path in kept:
            continue
        if any(one.is_relative_to(path) for one in kept):
            _clear(path, kept)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    with suppress(OSError):
        folder.rmdir()
