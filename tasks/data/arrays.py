"""Arrays for rows that may be more than the memory holds."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

from tasks.errors import Unavailable
from tasks.home import home

LARGEST_SHARE = 0.3
"""Share of the free memory that one array may take; a fit holds a training and a validation split, and
needs room for its network."""

_CGROUP = Path("/sys/fs/cgroup")


def empty_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """An array to be filled: in memory, or in a file that is mapped where memory is short.

    The file lies in the data folder and has no name, so the system takes it back when the last process
    that has the array ends, however it ends. Pages that are not in use cost no memory.

    Args:
        shape: Of the array.
        dtype: Of the array.

    Raises:
        Unavailable: Neither memory nor disk has the room.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= LARGEST_SHARE * free_memory_bytes():
        return np.empty(shape, dtype)
    folder = home() / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            if size > shutil.disk_usage(folder).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, not a crash later
        except OSError as error:
            raise Unavailable(
                f"the rows take {size / 2**30:,.1f} GiB, more than the memory or the disk has room for",
                where=str(folder),
                allowed=f"{LARGEST_SHARE:.0%} of {free_memory_bytes() / 2**30:,.1f} GiB of free memory, "
                "or the room on that disk",
                mend="resize to fewer pixels, take fewer rows, or free the disk",
            ) from error
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def free_memory_bytes() -> int:
    """Memory that this process may still take: the host's, or what a container's limit leaves of it."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free  # no limits of this kind here
    return free if limit == "max" else max(0, min(free, int(limit) - used))
