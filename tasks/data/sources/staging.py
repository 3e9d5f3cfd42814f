"""Private folders for files that live as long as one step; what a killed process left is swept."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.errors import Unavailable
from tasks.home import home

_NAME = re.compile(r"^([0-9a-f]{16})(\.lock)?$")
_RESERVE_BYTES = 300 * 2**20
"""Left free on the disk: databases that cannot grow end half-written."""


def staging_folder() -> Path:
    """Where the private folders are; workers must see it."""
    return home() / "staging"


@contextmanager
def staged() -> Iterator[Path]:
    """A new, empty folder for this user alone; gone at the end of the block.

    Its process holds a lock beside it, which the kernel releases however the process ends.

    Raises:
        Unavailable: The data folder cannot be written to.
    """
    try:
        staging_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _new_lock()
        folder = Path(lock.lock_file).with_suffix("")
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise Unavailable(
            f"No folder for unpacked files can be made: {error.strerror}",
            where=str(staging_folder()),
            mend="free some space, or choose another data folder with TRAINYARD_HOME",
        ) from error
    try:
        yield folder
    finally:
        _remove(folder, lock)


def sweep() -> list[Path]:
    """Remove the folders whose processes are gone; returns them."""
    parent, removed = staging_folder(), []
    try:
        stems = {match[1] for path in parent.iterdir() if (match := _NAME.match(path.name))}
    except OSError:  # there is none yet; or it is another user's, as the next step will tell
        return []
    for stem in sorted(stems):
        lock = FileLock(parent / f"{stem}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue  # it is in use, or another user's
        _remove(parent / stem, lock)
        removed.append(parent / stem)
    return removed


def require_space(needed_bytes: int, files: int, what: str) -> None:
    """Refuse what would fill the disk that the private folders are on.

    Raises:
        Unavailable: There is not so much space, or there are not so many files left to make.
    """
    disk = os.statvfs(staging_folder())
    free = disk.f_bavail * disk.f_frsize - _RESERVE_BYTES
    if disk.f_files and files > disk.f_favail:
        raise Unavailable(
            f"{what} holds {files:,} files, the disk takes {disk.f_favail:,} more",
            where=str(staging_folder()),
            mend="remove files from the disk, or ingest from the unpacked folder",
        )
    if needed_bytes > free:
        raise Unavailable(
            f"{what} needs {needed_bytes / 2**30:.2f} GiB on the disk, {max(0, free) / 2**30:.2f} are free",
            where=str(staging_folder()),
            mend="free some space, or ingest from the unpacked folder, which needs none",
        )


def _new_lock() -> FileLock:
    while True:
        lock = FileLock(staging_folder() / f"{secrets.token_hex(8)}.lock", mode=0o600, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue  # a sweep took it for one that was left
        return lock


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():  # else the next sweep tries again
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
