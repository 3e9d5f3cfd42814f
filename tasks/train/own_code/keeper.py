"""The process that runs the user's code and outlives none of it; started as a program of its own.

    flow process ── keeper ── init ── the code ── whatever it starts

Only the standard library is used, and of this project only the modules that are imported below: the keeper
starts in milliseconds. It ends the code at a limit, on a word from the flow process, and when the
flow process is gone, even by SIGKILL (the kernel sends a signal at a parent's death, and standard input
ends). Where the kernel allows it, the code has process numbers of its own (user and pid namespaces): then
nothing that it starts can leave, since all of it dies with `init`, and it cannot see the other processes of
the host and what stands in their environments. Elsewhere the keeper adopts what loses its parent
(subreaper) and kills it by its descent.

    python -E -s -S -m tasks.train.own_code.keeper DESCRIPTOR FOLDER

The open file of that number says as JSON what to run; on standard input come the words stop and done.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import struct
import sys
import time
from typing import Any

from tasks.parent_death import die_with_parent
from tasks.train.own_code.confinement import (
    adopt_orphans,
    become_init,
    enter_namespaces,
    has_namespaces,
)
from tasks.train.own_code.process_tree import Tree, size_of

_FASTEST_S, _SLOWEST_S = 0.1, 0.5
_DISK_EVERY_S = 2.0
_BLOCK_BYTES = 65_536


class Keeper:
    """Watches over one run of the code."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec, self.limits = spec, spec["limits"]
        self.orphaned = False
        self.reason = ""
        self.status: int | None = None
        self.peak_bytes = self.peak_processes = self.written = 0
        self.kill_at: float | None = None
        self.tree = Tree(os.getpid())
        self.separate = False
        self.init = 0

    def start(self) -> None:
        """Start `init`, which starts the code."""
        self.separate = self.spec.get("namespaces", True) and has_namespaces()
        if self.separate:
            enter_namespaces()
        self.output, write_output = os.pipe()
        self.told, write_status = os.pipe()
        self.init = os.fork()
        if self.init == 0:
            try:
                os.close(0)
                become_init(self.spec, write_output, write_status, self.separate)
            finally:
                os._exit(1)
        os.close(write_output)
        os.close(write_status)
        os.set_blocking(self.output, False)

    def watch(self) -> None:
        """Follow the code until it ends or must end."""
        began = time.monotonic()
        next_look = next_disk = began
        with (
            open(self.spec["log"], "ab", buffering=0) as self.log,
            selectors.DefaultSelector() as selector,
        ):
            for source in (0, self.output, self.told):
                selector.register(source, selectors.EVENT_READ)
            while not self.reason and not self.orphaned:
                now = time.monotonic()
                for key, _ in selector.select(max(0.0, next_look - now)):
                    if key.fd == 0:
                        self.listen()
                    elif key.fd == self.output:
                        if not self.copy_output():
                            selector.unregister(self.output)
                    else:
                        self.hear_the_end()
                now = time.monotonic()
                if self.limits["time_s"] and now - began > self.limits["time_s"] and self.kill_at is None:
                    self.ask_to_end("time")
                if self.kill_at is not None and now > self.kill_at and not self.reason:
                    self.reason = self.asked_for
                if now >= next_look and not self.reason:
                    self.look()
                    took = time.monotonic() - now
                    next_look = now + min(_SLOWEST_S, max(_FASTEST_S, 20 * took))
                if now >= next_disk and not self.reason:
                    if size_of(self.spec["written_to"]) > self.limits["disk_bytes"]:
                        self.reason = "disk"
                    next_disk = time.monotonic() + max(_DISK_EVERY_S, 20 * (time.monotonic() - now))
            self.kill()
            while self.reason != "output" and self.copy_output():
                pass
        self.wall_s = time.monotonic() - began

    def listen(self) -> None:
        """Hear the flow process, or that it is gone."""
        words = os.read(0, 1024)
        if not words:
            self.orphaned = True
        elif b"stop" in words and self.kill_at is None:
            self.ask_to_end("stopped")

    def ask_to_end(self, reason: str) -> None:
        """Send SIGTERM, and note when patience ends."""
        self.asked_for = reason
        self.kill_at = time.monotonic() + self.spec["grace_s"]
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.init, signal.SIGTERM)

    def hear_the_end(self) -> None:
        """Take the status of the code from `init`."""
        told = os.read(self.told, 4)
        self.status = struct.unpack("i", told)[0] if len(told) == 4 else None
        # init without a word was killed: by the kernel short of memory, or by the code itself.
        self.reason = (self.asked_for if self.kill_at is not None else "ended") if told else "lost"

    def copy_output(self) -> bool:
        """Move a block of output to the log; False when there is none."""
        try:
            block = os.read(self.output, _BLOCK_BYTES)
        except BlockingIOError:
            return False
        room = int(self.limits["output_bytes"]) - self.written
        self.log.write(block[: max(0, room)])
        self.written += len(block)
        if self.written > self.limits["output_bytes"]:
            self.reason = "output"
        return bool(block)

    def look(self) -> None:
        """Count processes and memory."""
        members = self.tree.members()
        members.pop(self.init, None)
        self.peak_processes = max(self.peak_processes, len(members))
        resident = sum(members.values())
        if len(members) > self.limits["processes"]:
            self.reason = "processes"
            return
        if resident > self.limits["memory_bytes"]:
            resident = self.tree.shared_out(members)
            if resident > self.limits["memory_bytes"]:
                self.reason = "memory"
        self.peak_bytes = max(self.peak_bytes, resident)

    def kill(self) -> None:
        """End all that is left, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.init, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if not self.separate:
                for pid in self.tree.members():
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            time.sleep(0.005)

    def tell(self) -> None:
        """Write down how it ended."""
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        result = {
            "reason": self.reason,
            "code": code,
            "wall_s": self.wall_s,
            "peak_bytes": self.peak_bytes,
            "peak_processes": self.peak_processes,
            "output_bytes": self.written,
            "separate": self.separate,
        }
        aside = f"{self.spec['result']}.partial"
        with open(aside, "w") as file:
            json.dump(result, file)
        os.rename(aside, self.spec["result"])


def main() -> None:
    """Run the code, then wait until the flow process has taken what it left, or is gone."""
    with open(int(sys.argv[1])) as file:
        file.seek(0)
        spec = json.load(file)
    keeper = Keeper(spec)

    def parent_died(number: int, frame: object) -> None:
        keeper.orphaned = True

    signal.signal(signal.SIGTERM, parent_died)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(signal.SIGTERM)
    adopt_orphans()
    if os.getppid() == spec["parent"]:
        keeper.start()
        keeper.watch()
        if not keeper.orphaned:
            keeper.tell()
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            while not keeper.orphaned:
                if selector.select(0.5):
                    words = os.read(0, 1024)
                    if b"done" in words:
                        return
                    keeper.orphaned = not words
    for folder in spec["remove"]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
