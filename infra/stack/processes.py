"""Processes of a stack, found by the marks that they carry in their environment (Linux)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator

import psutil

STACK_ID = "TRAINYARD_STACK_ID"
SERVICE = "TRAINYARD_SERVICE"
FLOW_RUN = "PREFECT__FLOW_RUN_ID"


def environment_of(pid: int) -> dict[str, str]:
    """Read a process's environment; empty where it is gone or belongs to somebody else."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in entries if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def of_stack(stack_id: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield process number and environment of every process that carries the stack's id."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        environment = environment_of(int(entry))
        if environment.get(STACK_ID) == stack_id:
            yield int(entry), environment


def flow_runs(stack_id: str) -> dict[str, list[int]]:
    """Map flow run ids to the processes that work for them."""
    runs: dict[str, list[int]] = {}
    for pid, environment in of_stack(stack_id):
        if run_id := environment.get(FLOW_RUN):
            runs.setdefault(run_id, []).append(pid)
    return runs


def of_service(stack_id: str, service: str) -> set[int]:
    """Processes of a service, without those of the flow runs that a worker started."""
    return {
        pid
        for pid, environment in of_stack(stack_id)
        if environment.get(SERVICE) == service and FLOW_RUN not in environment
    }


def own_line() -> set[int]:
    """This process and its ancestors: never to be ended by ourselves."""
    line, pid = set(), os.getpid()
    while pid > 0 and pid not in line:
        line.add(pid)
        try:
            pid = psutil.Process(pid).ppid()
        except psutil.Error:
            break
    return line


def end(pids: Iterable[int], *, grace_s: float = 5.0) -> int:
    """End processes: SIGTERM, then SIGKILL after the grace. Returns how many there were."""
    processes = []
    for pid in set(pids) - own_line():
        try:
            processes.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    for process in processes:
        _signal(process, signal.SIGTERM if grace_s > 0 else signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=grace_s or 3.0)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=3.0)
    return len(processes)


def sweep(stack_id: str, *, grace_s: float = 5.0, rounds: int = 5) -> int:
    """End every process of a stack; repeated, for those that were being started meanwhile."""
    ended = 0
    for _ in range(rounds):
        pids = {pid for pid, _ in of_stack(stack_id)} - own_line()
        if not pids:
            break
        ended += end(pids, grace_s=grace_s)
    return ended


def holder_of_port(port: int) -> str:
    """Describe the process that listens on a local TCP port, for an error message."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "a process of another user"
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            if connection.pid is None:
                break
            try:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:120] or process.name()})"
            except psutil.Error:
                break
    return "a process of another user"


def listens(pid: int, port: int) -> bool:
    """Whether a process, or one that it started, listens on a local TCP port."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return False
    for process in family:
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.Error:
            continue
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return True
    return False


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def started_at(pid: int) -> float:
    """Start time in seconds since the epoch; now, where the process is gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return time.time()


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
