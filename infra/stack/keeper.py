"""The keeper: restores the supervisor when it dies, as the supervisor restores the keeper.

It runs under the supervisor like the services, but outlives it: when the supervisor is gone and the
stack is still wanted, the keeper's process becomes the new supervisor.
"""

from __future__ import annotations

import os
import select
import signal
from types import FrameType

from infra import settings as stack_settings
from infra.settings import Settings
from infra.stack import supervisor

_CHECK_S = 1.0


def wait_for_end(pid: int, stop: list[bool]) -> bool:
    """Wait until a process ends; returns False when told to stop before that."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(handle, "rb", buffering=0) as file:
        while not stop:
            if select.select([file], [], [], _CHECK_S)[0]:
                return True
    return False


def outlive(settings: Settings) -> bool:
    """After an order to stop: whether to live on, because the supervisor ends but the stack is wanted."""
    return settings.wanted_file.exists() and supervisor.is_ending(settings)


def main() -> None:
    settings = stack_settings.of_home()
    watched = os.getppid()
    stop: list[bool] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.append(True)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not wait_for_end(watched, stop):
        if not outlive(settings):
            return
        if os.fork():
            return  # the supervisor waits for this process; its copy waits for the supervisor
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop.clear()
        wait_for_end(watched, stop)
    if not settings.wanted_file.exists():
        return
    if os.getpgrp() != os.getpid():
        os.setsid()
    # Standard output is a pipe to the one that is gone.
    log = os.open(settings.log_folder / "supervisor.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    print(f"The supervisor (process {watched}) is gone; starting it again.", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = supervisor.command(settings)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
