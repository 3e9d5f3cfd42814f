"""Models that were fetched from MLflow: a folder each, kept on this host as long as somebody uses them.

A process that takes one holds a shared lock on its folder until it ends, so that nobody tidies it away while
it is read; the folder's modification time says when it was last taken.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

_TAKEN: dict[tuple[int, int], int] = {}
"""Open folders by device and inode: they are what this process holds."""


def take(kept: Path) -> bool:
    """Whether a model is there; if it is, it stays at least until this process ends."""
    try:
        folder = os.open(kept, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    fcntl.flock(folder, fcntl.LOCK_SH)  # waits while somebody takes it away
    held = os.fstat(folder)
    if not _is_at(kept, held):
        os.close(folder)
        return False
    with suppress(OSError):  # in a container the folder may be another user's, or not be written to
        os.utime(folder)
    if _TAKEN.setdefault((held.st_dev, held.st_ino), folder) != folder:
        os.close(folder)  # taken before
    return True


def remove(kept: Path) -> None:
    """Take a model away; nobody sees half of it."""
    aside = kept.with_name(f".partial-{uuid4().hex}")
    with suppress(FileNotFoundError):
        kept.rename(aside)
        shutil.rmtree(aside)


def remove_unused(kept: Path) -> bool:
    """Take a model away, unless a process has taken it; says whether it is gone."""
    folder = os.open(kept, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(kept)
    except BlockingIOError:
        return False
    finally:
        os.close(folder)
    return True


def _is_at(path: Path, held: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), held)
    except FileNotFoundError:
        return False
