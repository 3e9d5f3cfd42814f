"""Task runs whose flow run was ended from outside are closed as it ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, StateType
from prefect.settings import PREFECT_API_URL

from infra.settings import Settings
from infra.stack.reaper import close_orphaned_tasks


@flow(name="orphans")
def orphans() -> None: ...


@task(name="orphan")
def orphan() -> None: ...


def make_run(client: SyncPrefectClient, ended_as: StateType | None) -> UUID:
    """A running task run in a flow run that ended so, or runs still; returns the task run's id."""
    run = client.create_flow_run(orphans, state=State(type=StateType.RUNNING))
    child = client.create_task_run(
        orphan, flow_run_id=run.id, dynamic_key="0", state=State(type=StateType.RUNNING)
    )
    if ended_as is not None:
        client.set_flow_run_state(run.id, State(type=ended_as), force=True)
    return child.id


@pytest.mark.parametrize(
    ("ended_as", "expected"),
    [
        (StateType.CRASHED, StateType.CRASHED),
        (StateType.CANCELLED, StateType.CANCELLED),
        (None, StateType.RUNNING),
    ],
)
def test_a_task_ends_as_its_flow_run_did(ended_as: StateType | None, expected: StateType) -> None:
    settings = cast(Settings, SimpleNamespace(prefect_api_url=str(PREFECT_API_URL.value())))
    with get_client(sync_client=True) as client:
        task_run = make_run(client, ended_as)
        close_orphaned_tasks(settings)
        state: Any = client.read_task_run(task_run).state
    assert state.type is expected
