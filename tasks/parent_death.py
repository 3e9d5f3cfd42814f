"""A process that does not outlive its parent. Uses only the standard library."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends, however it ends; holds over exec.

    A parent that ended before the call is not noticed: compare `os.getppid()` afterwards.

    Raises:
        OSError: The kernel refused: `prctl(2)`, PR_SET_PDEATHSIG.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
