"""Scratch folders of studies and sweeps, which do not outlive their process for long."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new folder, removed in the end; what killed processes left below `parent` goes as well.

    A lock beside each folder tells whether its process lives: the system frees it with the process.

    Args:
        parent: Holds the scratch folders of all processes of this host.
        name: Beginning of the folder's name, such as the flow run's id.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for lock in parent.glob("*.lock"):
        try:
            with FileLock(lock).acquire(timeout=0):
                _remove(lock.with_suffix(""))
        except Timeout:
            continue  # its process is at work
    folder = parent / f"{name}-{uuid.uuid4().hex[:8]}"
    with FileLock(f"{folder}.lock"):
        folder.mkdir()
        try:
            yield folder
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder and the lock beside it, which the caller holds."""
    shutil.rmtree(folder, ignore_errors=True)  # a worker that is just ending may still write there
    Path(f"{folder}.lock").unlink(missing_ok=True)
