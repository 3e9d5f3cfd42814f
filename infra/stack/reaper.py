"""End in Prefect's records what has ended on this host: a run whose process is gone is not running.

Prefect's worker reports the end of a process that it started itself; when the worker is killed, or
the host, nobody does, and such a run stays "Running" for ever and keeps its concurrency slots.

The pool `local` means this host: a run of it whose process is not here is taken for dead. A worker on
another host needs a work pool of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from infra.settings import WORK_POOL, Settings
from infra.stack import http, processes
from tasks.errors import Unavailable

_UNFINISHED = ["RUNNING", "PENDING", "CANCELLING"]
_FINISHED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_DEAD_RUN = (
    "The process of this run is gone; what it had finished is kept, running again continues from there."
)
_STOPPED = "The stack was stopped while this run was in progress."


@dataclass
class Grace:
    """How long a run must have been without a process before it is closed, by state, in seconds.

    A run is pending for some seconds before its process starts, and after a process ends the worker
    reports the result itself. A run that was pending before the worker started has nobody who would start
    it: it counts as running.
    """

    running_s: float = 20.0
    pending_s: float = 90.0
    cancelling_s: float = 60.0

    def of(self, state: dict[str, Any], worker_since: float | None) -> float:
        """The wait of a run in this state.

        Args:
            state: The run's, as Prefect's API gives it.
            worker_since: When the worker that runs now started, in seconds since the epoch.
        """
        if state["type"] == "PENDING" and worker_since and _moment(state["timestamp"]) < worker_since:
            return self.running_s
        return {"RUNNING": self.running_s, "PENDING": self.pending_s, "CANCELLING": self.cancelling_s}[
            state["type"]
        ]


NO_GRACE = Grace(running_s=0.0, pending_s=0.0, cancelling_s=0.0)


@dataclass
class Reaper:
    """Closes dead runs of this stack's work pool; keeps what it saw between its rounds.

    Attributes:
        settings: The stack's settings.
        stack_id: The id that the stack's processes carry.
        grace: Waits before a run without a process is closed.
        missing_since: When each run was first seen without a process, in seconds since the epoch.
    """

    settings: Settings
    stack_id: str
    grace: Grace = field(default_factory=Grace)
    missing_since: dict[str, float] = field(default_factory=dict)

    def round(self) -> list[str]:
        """Look once; returns the names of the runs that were closed."""
        runs = unfinished(self.settings)
        alive = processes.flow_runs(self.stack_id)
        worker = processes.of_service(self.stack_id, "worker")
        worker_since = min(map(processes.started_at, worker), default=None)
        now = datetime.now(UTC).timestamp()
        closed = []
        for run in runs:
            pids = alive.get(run["id"], [])
            if run["state"]["type"] == "CANCELLING" and pids and self._overdue(run, now):
                # Its worker was replaced: the new one does not know the process, so nobody ends it.
                processes.end(pids)
                close(self.settings, run, "CANCELLED", "The run was cancelled; its process was ended.")
                closed.append(str(run["name"]))
                continue
            if pids:
                self.missing_since.pop(run["id"], None)
                continue
            since = self.missing_since.setdefault(run["id"], now)
            if now - since < self.grace.of(run["state"], worker_since):
                continue
            self.missing_since.pop(run["id"], None)
            if run["state"]["type"] == "CANCELLING":
                close(self.settings, run, "CANCELLED", "The run was cancelled; its process is gone.")
            else:
                close(self.settings, run, "CRASHED", _DEAD_RUN)
            closed.append(str(run["name"]))
        self.missing_since = {k: v for k, v in self.missing_since.items() if k in {r["id"] for r in runs}}
        close_orphaned_tasks(self.settings)
        return closed

    def _overdue(self, run: dict[str, Any], now: float) -> bool:
        return now - _moment(run["state"]["timestamp"]) >= self.grace.cancelling_s


def unfinished(settings: Settings) -> list[dict[str, Any]]:
    """Runs of the stack's work pool that are recorded as under way (those waiting to start are not)."""
    body = {
        "flow_runs": {"state": {"type": {"any_": _UNFINISHED}}},
        "work_pools": {"name": {"any_": [WORK_POOL]}},
        "limit": 200,
    }
    return list(http.call("POST", f"{settings.prefect_api_url}/flow_runs/filter", body))


def close_orphaned_tasks(settings: Settings) -> None:
    """Close task runs under way whose flow run ended from outside: the worker closes the flow run alone."""
    api = settings.prefect_api_url
    for state in ("CRASHED", "CANCELLED"):
        body = {
            "task_runs": {"state": {"type": {"any_": _UNFINISHED}}},
            "flow_runs": {"state": {"type": {"any_": [state]}}},
            "limit": 200,
        }
        for task_run in http.call("POST", f"{api}/task_runs/filter", body):
            _set_state(f"{api}/task_runs/{task_run['id']}", state, "The flow run's process is gone.")


def close(settings: Settings, run: dict[str, Any], state: str, message: str) -> None:
    """Give a run its final state, its unfinished task runs and subflow runs first."""
    api = settings.prefect_api_url
    for task_run in http.call(
        "POST",
        f"{api}/task_runs/filter",
        {
            "flow_runs": {"id": {"any_": [run["id"]]}},
            "task_runs": {"state": {"type": {"any_": _UNFINISHED}}},
            "limit": 200,
        },
    ):
        children = http.call(
            "POST",
            f"{api}/flow_runs/filter",
            {"flow_runs": {"parent_task_run_id": {"any_": [task_run["id"]]}}, "limit": 200},
        )
        for child in children:
            if child["state"]["type"] not in _FINISHED:
                close(settings, child, state, message)
        _set_state(f"{api}/task_runs/{task_run['id']}", state, message)
    _set_state(f"{api}/flow_runs/{run['id']}", state, message)


def stop_runs(settings: Settings, stack_id: str, in_progress: list[dict[str, Any]]) -> list[str]:
    """End the processes of all flow runs and record the runs as cancelled; for `down`.

    Args:
        settings: The stack's settings.
        stack_id: The id that the stack's processes carry.
        in_progress: The runs that were under way before the worker was stopped. It has to be stopped,
            or it starts the next one; and with it end its processes, some of which say on their way
            out that they crashed.

    Returns:
        The names of the runs that were cancelled; those that came to their own end are left out.
    """
    for pids in processes.flow_runs(stack_id).values():
        processes.end(pids)
    runs = {run["id"]: run for run in [*in_progress, *unfinished(settings)]}
    closed = []
    for run in runs.values():
        now = http.call("GET", f"{settings.prefect_api_url}/flow_runs/{run['id']}")
        if now["state"]["type"] in ("COMPLETED", "FAILED", "CANCELLED"):
            continue
        close(settings, now, "CANCELLED", _STOPPED)
        closed.append(str(run["name"]))
    return closed


def _set_state(url: str, state: str, message: str) -> None:
    names = {"CRASHED": "Crashed", "CANCELLED": "Cancelled"}
    body = {"state": {"type": state, "name": names[state], "message": message}, "force": True}
    try:
        http.call("POST", f"{url}/set_state", body)
    except http.Refused as error:
        if error.status != 404:  # deleted meanwhile
            raise Unavailable(
                "A run could not be closed", where=url, mend="see the Prefect server's log"
            ) from error


def _moment(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
