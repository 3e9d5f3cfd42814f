"""What the processes below one take: how many there are, their memory, and their files.

Part of the keeper: only the standard library is used.
"""

from __future__ import annotations

import contextlib
import os

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Tree:
    """All processes below one: how many they are, and how much memory they hold."""

    def __init__(self, root: int) -> None:
        self.root = root

    def members(self) -> dict[int, int]:
        """Process numbers with their resident bytes; the dead that nobody buried are left out."""
        parents: dict[int, int] = {}
        resident: dict[int, int] = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            pid = int(name)
            parents[pid] = int(fields[1])
            if fields[0] not in (b"Z", b"X"):
                resident[pid] = int(fields[21]) * _PAGE_BYTES
        children: dict[int, list[int]] = {}
        for pid, parent in parents.items():
            children.setdefault(parent, []).append(pid)
        found, waiting = {}, list(children.get(self.root, ()))
        while waiting:
            pid = waiting.pop()
            if pid in resident:
                found[pid] = resident[pid]
            waiting += children.get(pid, ())
        return found

    @staticmethod
    def shared_out(members: dict[int, int]) -> int:
        """Bytes with shared pages counted once (PSS)."""
        total = 0
        for pid, resident in members.items():
            try:
                with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                    total += next(int(line.split()[1]) for line in file if line.startswith(b"Pss:")) * 1024
            except (OSError, StopIteration):
                total += resident
        return total


def size_of(folders: list[str]) -> int:
    """Bytes of all files below some folders, without following links."""
    total = 0
    waiting = list(folders)
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        else:
                            total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total
