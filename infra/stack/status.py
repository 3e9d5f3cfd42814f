"""What runs: services with their health, and endpoints."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from infra.settings import Settings
from infra.stack import health, services, supervisor
from tasks.serve.record import list_records


def services_now(settings: Settings) -> list[dict[str, Any]]:
    """One entry a service: name, url (None where it has none), healthy, pid (None where it is down)."""
    known = supervisor.programs(settings)
    supervisor_pid = supervisor.pid(settings) if known else None
    declared = [(s.name, s.url) for s in services.declared(settings)]
    with ThreadPoolExecutor(len(declared)) as pool:
        healthy = list(pool.map(lambda d: health.is_healthy(settings, d[0], known.get(d[0])), declared))
    entries = [
        {"name": name, "url": url, "healthy": good, "pid": (known.get(name) or {}).get("pid") or None}
        for (name, url), good in zip(declared, healthy, strict=True)
    ]
    keeper = known.get("keeper")
    entries.append(
        {
            "name": "keeper",
            "url": None,
            "healthy": health.is_healthy(settings, "keeper", keeper),
            "pid": (keeper or {}).get("pid") or None,
        }
    )
    entries.append(
        {"name": "supervisor", "url": None, "healthy": bool(supervisor_pid), "pid": supervisor_pid}
    )
    return entries


def endpoints_now(settings: Settings) -> list[dict[str, str]]:
    """One entry an endpoint that is switched on: name, url that a client posts to, token_file."""
    return [
        {"name": record.name, "url": record.url, "token_file": record.token_file}
        for record in list_records(settings.home)
        if record.enabled
    ]


def report(settings: Settings) -> dict[str, Any]:
    """The document that `trainyard status --json` prints."""
    return {"services": services_now(settings), "endpoints": endpoints_now(settings)}
