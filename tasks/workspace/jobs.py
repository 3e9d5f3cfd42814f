"""Running and waiting jobs as people read them: what, whose, since when, and what each waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from tasks.refs import USER_TAG, WORKSPACE_TAG, tagged

AWAITING_SLOTS = "AwaitingSlots"
"""Name of the paused state of a flow run that waits for slots."""

WAITS = {
    "Pending": "its process to start",
    "Submitting": "its process to start",
    "Resuming": "a worker",
    "Late": "a worker, or a free place in its work queue",
    "AwaitingConcurrencySlot": "a free slot of its deployment or quota",
    "AwaitingRetry": "its next try",
    "Paused": "an answer from a person",
    "Draft": "somebody to start it",
    "Suspended": "an answer from a person",
    "Cancelling": "its processes to end",
}


@dataclass(frozen=True)
class RunFacts:
    """What the orchestrator knows of a flow run.

    Attributes:
        place: Its number among those that wait for slots.
        devices: The slots that it has or needs, such as `2 GPUs`.
        waits_for: What it waits for, where that is more than its state says.
    """

    id: str
    flow: str
    name: str
    state: str
    tags: Sequence[str]
    work_queue: str
    created: datetime
    due: datetime | None
    started: datetime | None
    place: int | None = None
    devices: str = ""
    waits_for: str = ""


@dataclass(frozen=True)
class JobLine:
    """One line of the list."""

    type: str
    workspace: str
    name: str
    user: str
    devices: str
    state: str
    waits_for: str
    since: str
    tags: str
    id: str


def list_jobs(runs: Sequence[RunFacts], now: datetime) -> list[JobLine]:
    """Running jobs first, then waiting ones in the order in which they are due.

    Runs that a schedule has planned for later are left out: they wait for nothing but the clock.
    """
    due = [run for run in runs if run.state != "Scheduled" or run.due is None or run.due <= now]
    due.sort(key=lambda run: (not _under_way(run), run.place or 0, run.started or run.due or run.created))
    return [_job(run, now) for run in due]


def _under_way(run: RunFacts) -> bool:
    """Whether it runs; one that waits for slots had a process before, to ask for them."""
    before_its_start = ("Pending", "Submitting", "Resuming", AWAITING_SLOTS)
    return run.started is not None and run.state not in before_its_start


def rows(jobs: Sequence[JobLine]) -> list[Mapping[str, str]]:
    """The list as table rows."""
    return [asdict(job) for job in jobs]


def _job(run: RunFacts, now: datetime) -> JobLine:
    since = (run.started if _under_way(run) else None) or run.due or run.created
    seconds = max(0, int((now - since).total_seconds()))
    free = [tag for tag in run.tags if not tag.startswith((WORKSPACE_TAG, USER_TAG))]
    waits_for = run.waits_for or WAITS.get(run.state, "" if run.started is not None else "a worker")
    return JobLine(
        type=run.flow,
        workspace=tagged(run.tags, WORKSPACE_TAG),
        name=run.name,
        user=tagged(run.tags, USER_TAG),
        devices=run.devices,
        state=run.state,
        waits_for=waits_for,
        since=_ago(seconds),
        tags=", ".join(free),
        id=run.id,
    )


def _ago(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
