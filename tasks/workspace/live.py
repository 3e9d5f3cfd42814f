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
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

UNDER_WAY = [StateType.RUNNING, StateType.PENDING, StateType.PAUSED, StateType.CANCELLING]
PAGE_RUNS = 200
"""Flow runs that one request asks for: the most that the server gives."""


def live_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """All flow runs that live, without those that are planned for later."""
    planned = _all(
        client,
        FlowRunFilter(
            state=_is([StateType.SCHEDULED]),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
        ),
    )
    # Last, so that a run that starts meanwhile is found. Whenever it was expected: one that was planned for
    # tonight may have been started now, and clocks differ.
    under_way = _all(client, FlowRunFilter(state=_is(UNDER_WAY)))
    return list((planned | under_way).values())


def _is(types: list[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=types))


def _all(client: SyncPrefectClient, wanted: FlowRunFilter) -> dict[UUID, FlowRun]:
    found: dict[UUID, FlowRun] = {}
    while True:
        # By what was seen and not by an offset: a run that ends between two pages would hide another.
        rest = wanted.model_copy(update={"id": FlowRunFilterId(not_any_=list(found)) if found else None})
        runs = client.read_flow_runs(flow_run_filter=rest, sort=FlowRunSort.ID_DESC, limit=PAGE_RUNS)
        found |= {run.id: run for run in runs}
        if len(runs) < PAGE_RUNS:
            return found


def flow_names(client: SyncPrefectClient, runs: Sequence[FlowRun]) -> Mapping[UUID, str]:
    """Names of the flows of runs, by the flow's id."""
    wanted = sorted({run.flow_id for run in runs})
    names: dict[UUID, str] = {}
    for start in range(0, len(wanted), PAGE_RUNS):
        flows = FlowFilter(id=FlowFilterId(any_=wanted[start : start + PAGE_RUNS]))
        names |= {flow.id: flow.name for flow in client.read_flows(flow_filter=flows, limit=PAGE_RUNS)}
    return names
