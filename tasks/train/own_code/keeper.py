"""The process that runs the user's code and outlives none of it; started as a program of its own.

    flow process ── keeper ── init ── the code ── whatever it starts

Only the standard library is used, and nothing of this project: the keeper starts in milliseconds. It
ends the code at a limit, on a word from the flow process, and when the flow process is gone, even by
SIGKILL (the kernel sends a signal at a parent's death, and standard input ends). Where the kernel
allows it, the code has process numbers of its own (user and pid namespaces): then nothing that it
starts can leave, since all of it dies with `init`, and it cannot see the other processes of the host
and what stands in their environments. Elsewhere the keeper adopts what loses its parent (subreaper) and
kills it by its descent.

    python -I -S keeper.py SPECIFICATION     # a JSON file; words on standard input: stop, done
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import selectors
import shutil
import signal
import struct
import sys
import time
from typing import Any

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_FASTEST_S, _SLOWEST_S = 0.1, 0.5
_DISK_EVERY_S = 2.0
_BLOCK_BYTES = 65_536

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    """Raise the error of a call of the C library that failed."""
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter_namespaces() -> None:
    """Give the processes that are forked from here on numbers of their own."""
    user, group = os.getuid(), os.getgid()
    checked(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWPID))
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def mount_proc() -> None:
    """Show only the namespace's own processes below /proc."""
    checked(libc.unshare(_CLONE_NEWNS))
    checked(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    checked(libc.mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None))


def has_namespaces() -> bool:
    """Whether the kernel lets this user have namespaces: tried in a child, which ends at once."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            enter_namespaces()
            inner = os.fork()
            if inner == 0:
                with contextlib.suppress(BaseException):
                    mount_proc()
                    os._exit(0)
                os._exit(1)
            code = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def become_init(spec: dict[str, Any], output: int, status: int, own_proc: bool) -> None:
    """Start the code, bury what dies, and tell how the code ended; never returns."""
    checked(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL))
    if own_proc:
        mount_proc()
    child = 0

    def pass_on(number: int, frame: object) -> None:
        if child:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, pass_on)
    child = os.fork()
    if child == 0:
        try:
            become_code(spec, output)
        except BaseException as error:
            os.write(output, f"{spec['command'][0]}: {error}\n".encode())
        os._exit(127)
    os.close(output)
    while True:
        try:
            ended, how = os.waitpid(-1, 0)
        except ChildProcessError:
            os._exit(1)
        if ended == child:
            os.write(status, struct.pack("i", how))
            os._exit(0)


def become_code(spec: dict[str, Any], output: int) -> None:
    """Turn into the user's program."""
    checked(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL))  # without namespaces init takes nothing along
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, 4096)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A backstop for one huge allocation; the limit itself is watched over all processes. Stacks of
    # threads and what drivers reserve count here and not there, so there is room for them.
    most = int(spec["limits"]["memory_bytes"]) + 8 * 2**30
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("800")
    os.chdir(spec["folder"])
    os.umask(0o077)
    os.execve(spec["command"][0], spec["command"], spec["environment"])


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
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    keeper = Keeper(spec)

    def parent_died(number: int, frame: object) -> None:
        keeper.orphaned = True

    signal.signal(signal.SIGTERM, parent_died)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    checked(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM))
    checked(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1))
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
