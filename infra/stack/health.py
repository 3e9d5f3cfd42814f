"""Whether each service does its work."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import datetime
from typing import Any

from infra.settings import WORK_POOL, Settings
from infra.stack import http, processes
from infra.stack.services import WORKER_NAME
from tasks.errors import Unavailable


def prefect(settings: Settings, info: dict[str, Any]) -> bool:
    return processes.listens(info["pid"], settings.prefect_port) and (
        http.call("GET", f"{settings.prefect_api_url}/health", timeout_s=3) is True
    )


def mlflow(settings: Settings, info: dict[str, Any]) -> bool:
    # A killed server's child may answer until the next start ends it: that is not the service's health.
    return processes.listens(info["pid"], settings.mlflow_port) and (
        http.call("GET", f"{settings.mlflow_url}/health", timeout_s=3) == "OK"
    )


def docs(settings: Settings, info: dict[str, Any]) -> bool:
    return processes.listens(info["pid"], settings.docs_port) and (
        bool(http.call("GET", f"{settings.docs_url}/", timeout_s=3))
    )


def worker(settings: Settings, info: dict[str, Any]) -> bool:
    """The server has heard from the process that runs now, not only from one before it."""
    workers = http.call(
        "POST", f"{settings.prefect_api_url}/work_pools/{WORK_POOL}/workers/filter", {}, timeout_s=3
    )
    heard = [
        w["last_heartbeat_time"] for w in workers if w["name"] == WORKER_NAME and w["status"] == "ONLINE"
    ]
    if not heard or not heard[0]:
        return False
    moment = datetime.fromisoformat(heard[0].replace("Z", "+00:00")).timestamp()
    return moment >= processes.started_at(int(info["pid"]))


def running(settings: Settings, info: dict[str, Any]) -> bool:
    """For programs whose only duty is to be there."""
    return True


PROBES: dict[str, Callable[[Settings, dict[str, Any]], bool]] = {
    "prefect": prefect,
    "mlflow": mlflow,
    "docs": docs,
    "worker": worker,
}


def is_healthy(settings: Settings, name: str, info: dict[str, Any] | None) -> bool:
    """Whether the supervisor runs a program and the program answers.

    Args:
        settings: The stack's settings.
        name: The program's name.
        info: What the supervisor says about it; None where it is unknown.
    """
    if not info or info["statename"] not in ("RUNNING", "STARTING") or not info["pid"]:
        return False
    try:
        return PROBES.get(name, running)(settings, info)
    except (Unavailable, KeyError, TypeError, ValueError):
        return False


def port_is_free(port: int) -> bool:
    """Whether a server could listen on a local port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
