"""The supervisor (supervisord): its configuration, its start, and its XML-RPC over a Unix socket."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

from infra.settings import REPOSITORY, Settings
from infra.stack import home, processes, services
from tasks.errors import Unavailable

_SHUTDOWN_STATE = 6  # supervisor.xmlrpc.Faults.SHUTDOWN_STATE, without importing all of it

_SUPERVISOR = """[unix_http_server]
file={socket}
chmod=0700

[supervisord]
nodaemon=true
silent=true
logfile={logs}/supervisor.log
logfile_maxbytes=5MB
logfile_backups=2
pidfile={run}/supervisord.pid
childlogdir={logs}
directory={repository}
umask=077
minfds=1024

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[include]
files = ../supervisor.d/*.conf

[program:keeper]
command={python} -m infra.stack.keeper
priority=1
startsecs=0
startretries=1000000
autorestart=true
stopwaitsecs=5
redirect_stderr=true
stdout_logfile={logs}/keeper.log
stdout_logfile_maxbytes=1MB
stdout_logfile_backups=1
"""

_PROGRAM = """
[program:{name}]
command={python} -m infra.stack.start {name}
priority=100
startsecs=1
startretries=1000000
autorestart=true
stopasgroup=true
killasgroup=true
stopwaitsecs={stop_s}
redirect_stderr=true
stdout_logfile={logs}/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=2
"""


def configuration_file(settings: Settings) -> Path:
    return settings.run_folder / "supervisord.conf"


def configure(settings: Settings) -> None:
    """Write the supervisor's configuration."""
    values = {
        "socket": settings.socket,
        "logs": settings.log_folder,
        "run": settings.run_folder,
        "repository": REPOSITORY,
        "python": shlex.quote(sys.executable),
    }
    text = _SUPERVISOR.format(**values)
    for service in services.declared(settings):
        text += _PROGRAM.format(name=service.name, stop_s=service.stop_s, **values)
    home.write(configuration_file(settings), text)


def command(settings: Settings) -> list[str]:
    """The command that becomes the supervisor."""
    return [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(configuration_file(settings))]


def launch(settings: Settings) -> None:
    """Start the supervisor in a session of its own, so that no terminal's signals reach it."""
    output = os.open(settings.log_folder / "supervisor.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        subprocess.Popen(
            command(settings),
            cwd=REPOSITORY,
            env=services.environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=0o077,
        )
    finally:
        os.close(output)


def proxy(settings: Settings) -> Any:
    """The supervisor's XML-RPC methods."""
    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(None, None, f"unix://{settings.socket}")
    return xmlrpc.client.ServerProxy("http://supervisor", transport=transport).supervisor


def answers(settings: Settings) -> bool:
    """Whether a supervisor of this home runs and is not ending."""
    try:
        return bool(proxy(settings).getState()["statecode"] == 1)
    except (OSError, xmlrpc.client.Error):
        return False


def is_ending(settings: Settings) -> bool:
    """Whether the supervisor has been told to end (or has ended)."""
    try:
        return bool(proxy(settings).getState()["statecode"] < 1)
    except xmlrpc.client.Fault as fault:
        return fault.faultCode == _SHUTDOWN_STATE
    except (OSError, xmlrpc.client.Error):
        return True


def programs(settings: Settings) -> dict[str, dict[str, Any]]:
    """State of every program by name; empty where no supervisor answers."""
    try:
        return {str(info["name"]): info for info in proxy(settings).getAllProcessInfo()}
    except (OSError, xmlrpc.client.Error):
        return {}


def pid(settings: Settings) -> int | None:
    """Process number of the supervisor, or None."""
    try:
        return int(proxy(settings).getPID())
    except (OSError, xmlrpc.client.Error):
        return None


def stop_program(settings: Settings, name: str) -> None:
    """Stop one program and wait for its end; nothing happens where it does not run."""
    try:
        proxy(settings).stopProcess(name)
    except (OSError, xmlrpc.client.Error):
        return


def start_program(settings: Settings, name: str) -> None:
    """Start one program without waiting; nothing happens where it runs."""
    try:
        proxy(settings).startProcess(name, False)
    except (OSError, xmlrpc.client.Error):
        return


def shut_down(settings: Settings, *, timeout_s: float) -> None:
    """Tell the supervisor to stop everything and wait until it is gone or the time is over."""
    number = pid(settings)
    if number is None:
        return
    try:
        proxy(settings).shutdown()
    except (OSError, xmlrpc.client.Error):
        return  # it ends already
    deadline = time.monotonic() + timeout_s
    while processes.alive(number) and time.monotonic() < deadline:
        time.sleep(0.1)


def wait_until_up(settings: Settings, *, timeout_s: float = 20.0) -> None:
    """Wait for the supervisor's socket.

    Raises:
        Unavailable: It did not come; with the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answers(settings):
            return
        time.sleep(0.1)
    raise Unavailable(
        "The supervisor did not start",
        where=str(settings.log_folder / "supervisor.log"),
        mend="read the end of that file, then run `trainyard down` and `trainyard up`",
    )
