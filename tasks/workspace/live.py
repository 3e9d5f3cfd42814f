"""Flow runs that live: those under way, and those that wait to start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

LIVE = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED, StateType.PAUSED, StateType.CANCELLING]
PAGE_RUNS = 200
"""Flow runs that one request asks for: the most that the server gives."""


def live_runs(client: SyncPrefectClient, tags: Sequence[str] = ()) -> list[FlowRun]:
    """All flow runs that live, without those that are planned for later.

    Args:
        client: Prefect.
        tags: Only those that have all of these.
    """
    found: dict[UUID, FlowRun] = {}
    while True:
        wanted = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=LIVE)),
            tags=FlowRunFilterTags(all_=list(tags)) if tags else None,
            expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
            # By what was seen and not by an offset: a run that ends between two pages would hide another.
            id=FlowRunFilterId(not_any_=list(found)) if found else None,
        )
        runs = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=PAGE_RUNS)
        found |= {run.id: run for run in runs}
        if len(runs) < PAGE_RUNS:
            return list(found.values())


def flow_names(client: SyncPrefectClient, runs: Sequence[FlowRun]) -> Mapping[UUID, str]:
    """Names of the flows of runs, by the flow's id."""
    wanted = sorted({run.flow_id for run in runs})
    names: dict[UUID, str] = {}
    for start in range(0, len(wanted), PAGE_RUNS):
        flows = FlowFilter(id=FlowFilterId(any_=wanted[start : start + PAGE_RUNS]))
        names |= {flow.id: flow.name for flow in client.read_flows(flow_filter=flows, limit=PAGE_RUNS)}
    return names
