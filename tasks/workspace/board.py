"""The list of jobs and of slots, as artifacts that are kept up to date, and the next jobs started.

On a local stack its caretaker calls this. Elsewhere one process does it for a Prefect server:
`python -m tasks.workspace.board`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey
from prefect.client.schemas.objects import FlowRun

from tasks.errors import TrainyardError
from tasks.workspace import jobs, slots
from tasks.workspace.live import flow_names, live_runs
from tasks.workspace.pools import all_pools, quotas
from tasks.workspace.queue import snapshot, start_next
from tasks.workspace.slots import Snapshot

ROUND_S = 2.0
ROUNDS_A_LIST = 3
MOST_JOBS = 1_000

Rows = Sequence[Mapping[str, str]]


def facts_of(client: SyncPrefectClient, runs: Sequence[FlowRun], seen: Snapshot) -> list[jobs.RunFacts]:
    """What is known of flow runs, with the slots that they have or wait for.

    Args:
        client: Prefect.
        runs: Flow runs to tell of.
        seen: All that have slots or wait for them.
    """
    asking = {job.id: job for job in seen.jobs}
    places = {job.id: place for place, job in enumerate(seen.queue, start=1)}
    names = flow_names(client, runs)
    facts = []
    for run in runs:
        job = asking.get(str(run.id))
        waits = run.state_name == jobs.AWAITING_SLOTS and job is not None
        facts.append(
            jobs.RunFacts(
                id=str(run.id),
                flow=names.get(run.flow_id, ""),
                name=run.name,
                state=run.state_name or "",
                tags=list(run.tags),
                work_queue=run.work_queue_name or "",
                created=run.created or datetime.now(UTC),
                due=run.next_scheduled_start_time or run.expected_start_time,
                started=run.start_time,
                place=places.get(str(run.id)),
                devices=slots.devices(job.ask.needs) if job is not None else "",
                waits_for=slots.words(job, seen) if waits and job is not None else "",
            )
        )
    return facts


def slot_rows(seen: Snapshot) -> list[dict[str, str]]:
    """Slots in use and in all, a line for each pool and kind that is limited."""
    lines = []
    for pool, quota in sorted(seen.quotas.items()):
        totals = {"training": quota.training, "serving": quota.serving}
        holders = [*seen.holders, *seen.claimants]
        taken = dict(zip(totals, slots.used(pool, holders, seen.endpoints), strict=True))
        for kind, total in totals.items():
            if total is None:
                continue
            waiting = sum(pool in job.ask.pools and bool(getattr(job.ask.needs, kind)) for job in seen.queue)
            lines.append(
                {
                    "of": pool,
                    "for": kind,
                    "used": str(taken[kind]),
                    "total": str(total),
                    "by": slots.holders_in_words(pool, kind, seen),
                    "jobs that wait": str(waiting),
                }
            )
    return lines


@dataclass
class Board:
    """The artifacts `jobs-now` and `slots-now`, written where they changed.

    Attributes:
        written: What each says, by key.
        ids: Of the artifacts, by key.
    """

    written: dict[str, str] = field(default_factory=dict)
    ids: dict[str, UUID] = field(default_factory=dict)

    def write(self, client: SyncPrefectClient) -> None:
        """Look once, and write down what changed."""
        runs = live_runs(client)
        seen = snapshot(client, runs)
        shown = Snapshot(seen.jobs, quotas({*seen.quotas, *all_pools(client)}), seen.endpoints, seen.now)
        listed = jobs.list_jobs(facts_of(client, runs, seen), datetime.now(UTC))[:MOST_JOBS]
        self._publish(client, "jobs-now", jobs.rows(listed), "Running and waiting jobs, kept up to date.")
        self._publish(client, "slots-now", slot_rows(shown), "Slots in use and in all, kept up to date.")

    def _publish(self, client: SyncPrefectClient, key: str, rows: Rows, about: str) -> None:
        text = json.dumps([dict(row) for row in rows])
        if self.written.get(key) == text:
            return
        if key not in self.ids:
            wanted = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=[key]))
            for there in client.read_latest_artifacts(artifact_filter=wanted):
                self.ids[key] = there.latest_id
        try:
            if key in self.ids:
                client.update_artifact(self.ids[key], ArtifactUpdate(data=text, description=about))
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            del self.ids[key]  # somebody deleted it
        if key not in self.ids:
            made = ArtifactCreate(key=key, type="table", data=text, description=about)
            self.ids[key] = client.create_artifact(made).id
        self.written[key] = text


def main() -> None:
    """Keep the queue of the Prefect server that this process is set to going, until it is ended."""
    board = Board()
    with get_client(sync_client=True) as client:
        for number in count():
            try:
                runs = live_runs(client)
                for name in start_next(client, snapshot(client, runs), runs):
                    print(f"It is the turn of {name}.", flush=True)
                if number % ROUNDS_A_LIST == 0:
                    board.write(client)
            except (httpx.HTTPError, TrainyardError) as error:
                print(f"Looked in vain: {error}", flush=True)
            time.sleep(ROUND_S)


if __name__ == "__main__":
    main()
