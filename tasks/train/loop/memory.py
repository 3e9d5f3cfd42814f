"""Keep the memory of one step for the next, instead of asking the kernel for it anew.

A step on images allocates hundreds of megabytes and frees them again. glibc hands blocks of that size back
to the kernel at once, and the kernel zeroes every page when it is touched next. On 150 pixel images that
took more than a third of a step.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Numbers of malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER = -1
_MEBIBYTE = 1024 * 1024


@contextmanager
def reused_memory() -> Iterator[None]:
    """Let this process keep what it frees; at the end, unused memory goes back to the kernel.

    Does nothing where the C library is not glibc.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        # Where glibc itself ends up in a process that has freed large blocks.
        library.mallopt(_MMAP_MAX, 65_536)
        library.mallopt(_MMAP_THRESHOLD, 32 * _MEBIBYTE)
        library.mallopt(_TRIM_THRESHOLD, 64 * _MEBIBYTE)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
        return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
    except OSError:
        return None
