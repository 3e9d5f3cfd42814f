"""How much memory there is: the host's, or what a container's limit leaves of it."""

from __future__ import annotations

from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""Limit and use of a container, as the two generations of control groups name them."""


def installed_memory_bytes() -> int:
    """Memory of this host, or of this container where it has less."""
    return min(int(psutil.virtual_memory().total), _container()[0])


def free_memory_bytes() -> int:
    """Memory that this process may still take."""
    limit, used = _container()
    return max(0, min(int(psutil.virtual_memory().available), limit - used))


def _container() -> tuple[int, int]:
    """Limit and use of this container, in bytes; a limit that nothing reaches where there is none."""
    for limit, used in _FILES:
        try:
            return int((_CGROUPS / limit).read_text()), int((_CGROUPS / used).read_text())
        except (OSError, ValueError):  # of the other generation, or "max"
            continue
    return 2**63, 0
