"""Work folders of studies and sweeps: gone when they end well, found again by the next attempt when not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.errors import Unavailable


@contextmanager
def scratch_folder(parent: Path, name: str, patience_s: float = 10.0) -> Iterator[Path]:
    """A folder of this name, removed where the block ends without an error.

    A killed process leaves it behind, for the next attempt of its flow run; the caretaker removes what was
    left for a week. A lock beside it tells whether its process lives: the system frees it with the process.

    Args:
        parent: Holds the folders of all processes of this host.
        name: The folder's name, such as the flow run's id.
        patience_s: A process that was just killed holds its lock for a moment.

    Raises:
        Unavailable: Another process works there.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / name
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=patience_s)
    except Timeout as error:
        raise Unavailable(
            "another process works for this run",
            where=str(folder),
            mend="wait until it has ended, or stop it",
        ) from error
    try:
        folder.mkdir(exist_ok=True)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)  # a worker that is just ending may still write there
        Path(lock.lock_file).unlink(missing_ok=True)
    finally:
        lock.release()
