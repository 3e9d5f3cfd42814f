"""Arrays for rows that may be more than the memory holds."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tasks.data.memory import free_memory_bytes
from tasks.errors import Unavailable
from tasks.home import home

LARGEST_SHARE = 0.3
"""Share of the free memory that one array may take; a fit holds a training and a validation split, and
needs room for its network."""


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
