"""A workspace is made real once, changed in place afterwards, and its jobs are listed and stopped."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import mlflow
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State, StateType
from prefect.states import Scheduled

from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from tasks.errors import InvalidSettings, NotAllowed, NotFound, Unavailable
from tasks.refs import Problem
from tasks.workspace.config import JobsConfig, WorkspaceConfig
from tasks.workspace.stored import load_workspace
from tasks.workspace.task import apply_workspace, list_jobs, stop_job

SITE = "workspace-suite"
POOL = "workspace-suite-pool"
VISION = WorkspaceConfig(name="vision", manager="ada", members=["bob"])


@flow
def make(config: WorkspaceConfig) -> None:
    apply_workspace(config, SITE, POOL)


@flow
def nothing() -> None:
    """A job to list."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("workspace")
    before = mlflow.get_tracking_uri()
    MlflowServer(tracking_uri=f"sqlite:///{folder}/mlflow.db").save(SITE, overwrite=True)
    ObjectStore(url=str(folder / "store")).save(SITE, overwrite=True)
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    yield folder / "store"
    mlflow.set_tracking_uri(before)


def test_applying_twice_changes_only_what_differs(store: Path) -> None:
    make(VISION)
    make(VISION.model_copy(update={"members": ["eve"], "description": "cameras"}))

    with get_client(sync_client=True) as client:
        queue = client.read_work_queue_by_name("workspace-vision", work_pool_name=POOL)
    assert queue.concurrency_limit is None
    (experiment,) = mlflow.search_experiments(filter_string="name = 'vision'")
    assert experiment.tags["trainyard.workspace"] == "vision"
    assert experiment.tags["mlflow.note.content"] == "cameras"
    saved = (store / "workspaces" / "vision" / "workspace.json").read_text()
    assert WorkspaceConfig.model_validate_json(saved) == load_workspace("vision")
    assert load_workspace("vision").members == ["eve"]


def test_the_problem_cannot_change_and_strange_names_are_not_found(store: Path) -> None:
    make(VISION)
    with pytest.raises(InvalidSettings, match="fixed"):
        make(VISION.model_copy(update={"problem": Problem.TABLE_REGRESSION}))
    with pytest.raises(NotFound, match="no workspace nowhere"):
        load_workspace("nowhere")


def test_jobs_are_listed_and_stopped_by_whom_they_belong_to(store: Path) -> None:
    make(VISION)
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(
            nothing,
            name="mine",
            tags=["workspace:vision", "user:bob"],
            state=State(type=StateType.PENDING),
        )
    (job,) = list_jobs.fn(JobsConfig(workspace="vision"))
    assert (job.id, job.type, job.user) == (str(run.id), "nothing", "bob")
    assert list_jobs.fn(JobsConfig(user="nobody")) == []

    with pytest.raises(NotAllowed, match="bob or ada"):
        stop_job.fn(str(run.id), "eve")
    assert stop_job.fn(str(run.id), "ada") in {"Cancelling", "Cancelled"}
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, State(type=StateType.CANCELLED), force=True)
    with pytest.raises(Unavailable, match="ended already"):
        stop_job.fn(str(run.id), "bob")


def test_all_jobs_that_are_due_are_found_behind_many_that_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.workspace.live.PAGE_RUNS", 2)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with get_client(sync_client=True) as client:
        due = {
            str(client.create_flow_run(nothing, tags=["workspace:pages", "user:bob"], state=state).id)
            for state in [State(type=StateType.PENDING), *[Scheduled()] * 4]
        }
        for _ in range(3):
            client.create_flow_run(
                nothing, tags=["workspace:pages"], state=Scheduled(scheduled_time=tomorrow)
            )
        client.create_flow_run(nothing, tags=["workspace:other", "user:bob"], state=Scheduled())
    assert {job.id for job in list_jobs.fn(JobsConfig(workspace="pages"))} == due
    assert {job.id for job in list_jobs.fn(JobsConfig(workspace="pages", user="bob"))} == due
    assert len(list_jobs.fn(JobsConfig(user="bob", limit=6))) == 6
    assert len(list_jobs.fn(JobsConfig(workspace="pages", limit=1))) == 1


def test_an_unknown_job_is_named_in_the_error() -> None:
    with pytest.raises(NotFound, match="no job"):
        stop_job.fn(str(uuid4()), "ada")
    with pytest.raises(InvalidSettings, match="'7'"):
        stop_job.fn("7", "ada")
