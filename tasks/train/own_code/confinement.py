"""How the user's code is set apart: process numbers of its own, and an init that nothing outlives.

Part of the keeper: only the standard library is used.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
from typing import Any

from tasks.parent_death import die_with_parent

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000
_PR_SET_CHILD_SUBREAPER = 36

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    """Raise the error of a call of the C library that failed."""
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def adopt_orphans() -> None:
    """Become the parent of what loses its own, at any depth below this process."""
    checked(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1))


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
    die_with_parent(signal.SIGKILL)
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
    die_with_parent(signal.SIGKILL)  # without namespaces init takes nothing along
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
