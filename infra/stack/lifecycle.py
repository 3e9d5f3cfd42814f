"""Bring the stack up and down: safe to call twice, and at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infra import settings as stack_settings
from infra.settings import REPOSITORY, Settings
from infra.stack import database, health, home, processes, reaper, services, supervisor
from tasks.errors import TrainyardError, Unavailable

Report = Callable[[str, str], None]
"""Called with a service's name and what has become of it."""

_CHECK_S = 0.2
_LOG_LINES = 12


def up(settings: Settings, report: Report) -> None:
    """Start what does not run, register what is not registered, and return when all is healthy.

    Raises:
        TrainyardError: Something stands in the way; the message says what to do.
    """
    stack_id = home.prepare(settings)
    with home.lifecycle_lock(settings):
        running = supervisor.answers(settings)
        if running:
            _require_same(settings)
        else:
            _clear_away(settings, stack_id)
            _require_ports(settings)
            database.require_sound(settings)
            database.create_missing(settings)
            home.record(settings)
            supervisor.configure(settings)
            home.write(settings.wanted_file, "")
            supervisor.launch(settings)
            supervisor.wait_until_up(settings)
        _start_stopped(settings)
        _complete(settings, report, stack_id, fresh=not running)


def down(settings: Settings, report: Report) -> int:
    """Stop everything of this home's stack; runs in progress end as cancelled.

    Returns:
        How many processes were still there after the orderly stop and were ended.
    """
    stack_id = home.known_stack_id(settings)
    if stack_id is None:
        return 0
    with home.lifecycle_lock(settings):
        settings.wanted_file.unlink(missing_ok=True)
        if supervisor.answers(settings):
            report("services", "stopping")
            recorded = health.is_healthy(settings, "prefect", supervisor.programs(settings).get("prefect"))
            in_progress = reaper.unfinished(settings) if recorded else []
            supervisor.stop_program(settings, "queue")  # or it would start what waits for those that end
            supervisor.stop_program(settings, "caretaker")
            supervisor.stop_program(settings, "worker")
            if recorded:
                for name in reaper.stop_runs(settings, stack_id, in_progress):
                    report("run", f"{name} was in progress and is cancelled")
            supervisor.shut_down(settings, timeout_s=40)
        left = processes.sweep(stack_id)
        for name in ("supervisord.pid", "supervisor.sock"):
            (settings.run_folder / name).unlink(missing_ok=True)
        settings.socket.unlink(missing_ok=True)
    return left


def bootstrap(settings: Settings, *, force: bool = False) -> None:
    """Register pool, blocks, deployments and automations; quick where nothing has changed.

    Raises:
        Unavailable: It failed; with the end of its output.
    """
    _await_bootstrap(settings, _launch_bootstrap(settings, force=force))


def end_of_log(file: Path, lines: int = _LOG_LINES) -> str:
    """The last lines of a log file, for an error message."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - 20_000))
            text = log.read().decode(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:])


def _complete(settings: Settings, report: Report, stack_id: str, *, fresh: bool) -> None:
    """Wait for the servers, run the bootstrap beside them, then wait for the worker."""
    registration = _launch_bootstrap(settings, force=False)
    try:
        _wait_healthy(settings, ["docs", "mlflow", "prefect"], report)
        for service in database.DATABASES:
            database.mark_ready(settings, service)
        if fresh:
            for name in reaper.Reaper(settings, stack_id, reaper.NO_GRACE).round():
                report("run", f"{name} was left behind by a stack that is gone; it is closed as crashed")
        report("deployments", "registering")
        _wait_healthy(settings, ["worker", "caretaker", "queue", "keeper"], report)
        _await_bootstrap(settings, registration)
        report("deployments", "registered")
    finally:
        if registration.poll() is None:
            registration.kill()
            registration.wait()


def _wait_healthy(settings: Settings, names: list[str], report: Report) -> None:
    deadline = time.monotonic() + settings.ready_timeout_s
    waiting = list(names)
    for name in waiting:
        report(name, "starting")
    while waiting:
        programs = supervisor.programs(settings)
        for name in list(waiting):
            if health.is_healthy(settings, name, programs.get(name)):
                waiting.remove(name)
                report(name, "ready")
        if waiting and time.monotonic() > deadline:
            name = waiting[0]
            log = settings.log_folder / f"{name}.log"
            raise Unavailable(
                f"{name} was not ready after {settings.ready_timeout_s:.0f} s; the end of its log:\n"
                f"{end_of_log(log)}\n",
                where=str(log),
                mend="read the log, then run `trainyard up` again; TRAINYARD_READY_TIMEOUT_S waits longer",
            )
        if waiting:
            time.sleep(_CHECK_S)


def _require_same(settings: Settings) -> None:
    changed = stack_settings.differences(settings, stack_settings.of_home())
    if changed:
        raise TrainyardError(
            f"The stack already runs with another value of {', '.join(changed)}",
            where=str(settings.home),
            mend="run `trainyard down` first, or unset the variable",
        )


def _clear_away(settings: Settings, stack_id: str) -> None:
    """End what a stack without a supervisor has left, except flow runs: those may finish."""
    left = {pid for pid, env in processes.of_stack(stack_id) if processes.FLOW_RUN not in env}
    processes.end(left - processes.own_line(), grace_s=1.0)
    settings.socket.unlink(missing_ok=True)


def _require_ports(settings: Settings) -> None:
    for service in services.declared(settings):
        if service.port and not health.port_is_free(service.port):
            raise Unavailable(
                f"Port {service.port} for {service.name} is taken by "
                f"{processes.holder_of_port(service.port)}",
                mend="end that process, or choose another port, such as "
                f"{service.variable}={service.port + 100}",
            )


def _start_stopped(settings: Settings) -> None:
    """Start programs that somebody has stopped by hand."""
    for name, info in supervisor.programs(settings).items():
        if info["statename"] in ("STOPPED", "FATAL", "EXITED"):
            supervisor.start_program(settings, name)


def _launch_bootstrap(settings: Settings, *, force: bool) -> subprocess.Popen[bytes]:
    with open(_bootstrap_log(settings), "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "deployments.bootstrap", *(["--force"] if force else [])],
            cwd=REPOSITORY,
            env=services.environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _await_bootstrap(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    try:
        code = process.wait(timeout=settings.ready_timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if code != 0:
        log = _bootstrap_log(settings)
        raise Unavailable(
            f"Deployments could not be registered; the end of the output:\n{end_of_log(log)}\n",
            where=str(log),
            mend="mend what it names, then run `trainyard bootstrap`",
        )


def _bootstrap_log(settings: Settings) -> Path:
    settings.log_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = settings.log_folder / "bootstrap.log"
    if not log.exists():
        os.close(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600))
    return log
