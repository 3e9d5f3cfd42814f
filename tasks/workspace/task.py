"""Prefect tasks of workspaces: make one real, list jobs, stop a job."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger

from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from blocks.workspace import Workspace
from tasks.data.task import asking_user
from tasks.errors import InvalidSettings, NotFound, Unavailable
from tasks.refs import USER_TAG, WORKSPACE_TAG, tagged
from tasks.workspace import jobs, rules
from tasks.workspace.board import facts_of
from tasks.workspace.config import JobsConfig, WorkspaceConfig
from tasks.workspace.live import live_runs
from tasks.workspace.plan import WorkspacePlan, plan
from tasks.workspace.queue import snapshot
from tasks.workspace.stored import block_name, load_workspace

WORK_POOL = "local"


@task(task_run_name="apply workspace {config.name}")
def apply_workspace(config: WorkspaceConfig, site: str = "local", pool: str = WORK_POOL) -> WorkspacePlan:
    """Make the workspace real: queue, experiment, storage folder and its block.

    Applying again changes what differs and leaves the rest; nothing is ever deleted.

    Args:
        config: The workspace.
        site: Blocks to use.
        pool: Work pool that gets the workspace's queue.

    Returns:
        What stands now.

    Raises:
        NotAllowed: Somebody else manages it.
        InvalidSettings: Its problem would change.
    """
    try:
        before = load_workspace(config.name)
        rules.require_may_change(before, asking_user())
        rules.require_same_problem(before, config)
    except NotFound:
        get_run_logger().info("Workspace %s is new.", config.name)
    wanted = plan(config)
    with get_client(sync_client=True) as client:
        _apply_queue(client, wanted, pool)
    _apply_experiment(wanted, cast(MlflowServer, MlflowServer.load(site)))
    _apply_storage(config, wanted, cast(ObjectStore, ObjectStore.load(site)))
    Workspace(**config.model_dump(mode="json")).save(block_name(config.name), overwrite=True)
    create_markdown_artifact(_page(config, wanted, pool), key="workspace", description=config.description)
    return wanted


@task(task_run_name="list jobs")
def list_jobs(config: JobsConfig) -> list[jobs.JobLine]:
    """List running and waiting jobs, and publish them as the artifact `jobs`."""
    tags = [
        prefix + value
        for prefix, value in ((WORKSPACE_TAG, config.workspace), (USER_TAG, config.user))
        if value
    ]
    with get_client(sync_client=True) as client:
        runs = live_runs(client)
        seen = snapshot(client, runs)  # of all: what a job waits for may be somebody else's
        wanted = [run for run in runs if set(tags) <= set(run.tags)]
        facts = facts_of(client, wanted, seen)
    listed = jobs.list_jobs(facts, datetime.now(UTC))[: config.limit]
    create_table_artifact(
        [dict(row) for row in jobs.rows(listed)],
        key="jobs",
        description="Running and waiting jobs, running ones first.",
    )
    return listed


@task(task_run_name="stop {flow_run_id}")
def stop_job(flow_run_id: str, user: str) -> str:
    """Ask a job to stop; the worker ends its processes.

    Args:
        flow_run_id: The job's flow run.
        user: User who asks; one's own jobs, or any in a workspace that one manages.

    Returns:
        Name of the state that the job is in now.

    Raises:
        NotFound: There is no such job.
        NotAllowed: The job is someone else's.
        Unavailable: The job cannot be stopped in the state that it is in.
    """
    try:
        identity = UUID(flow_run_id)
    except ValueError:
        raise InvalidSettings(
            f"{flow_run_id!r} is not the id of a job", mend="take the id from the list of jobs"
        ) from None
    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(identity)
        except ObjectNotFound:
            raise NotFound(
                f"There is no job {flow_run_id}", mend="take the id from the list of jobs"
            ) from None
        name = tagged(run.tags, WORKSPACE_TAG)
        rules.require_may_stop(tagged(run.tags, USER_TAG), load_workspace(name) if name else None, user)
        if run.state is None or run.state.is_final():
            raise Unavailable(
                f"The job has ended already: {run.state_name or 'no state'}", where=f"flow run {run.name}"
            )
        asked = State(type=StateType.CANCELLING, message=f"Stopped by {user}")
        client.set_flow_run_state(identity, asked)
        now = client.read_flow_run(identity).state
    return "" if now is None else now.name or now.type.value


def _apply_queue(client: SyncPrefectClient, wanted: WorkspacePlan, pool: str) -> None:
    try:
        client.read_work_queue_by_name(wanted.queue, work_pool_name=pool)
    except ObjectNotFound:
        try:
            client.create_work_queue(wanted.queue, work_pool_name=pool)
        except ObjectNotFound:
            raise NotFound(f"There is no work pool {pool}", mend="register it with trainyard up") from None


def _apply_experiment(wanted: WorkspacePlan, server: MlflowServer) -> None:
    client = server.client()
    found = client.get_experiment_by_name(wanted.experiment)
    identity = found.experiment_id if found else client.create_experiment(wanted.experiment)
    if found and found.lifecycle_stage == "deleted":
        client.restore_experiment(identity)
    for key, value in wanted.experiment_tags.items():
        if found is None or found.tags.get(key) != value:
            client.set_experiment_tag(identity, key, value)


def _apply_storage(config: WorkspaceConfig, wanted: WorkspacePlan, store: ObjectStore) -> None:
    filesystem, root = store.filesystem()
    folder = f"{root.rstrip('/')}/{wanted.storage_prefix}"
    filesystem.makedirs(folder, exist_ok=True)  # on object stores only the file below makes it exist
    filesystem.pipe_file(f"{folder}/workspace.json", json.dumps(config.model_dump(mode="json")).encode())


def _page(config: WorkspaceConfig, wanted: WorkspacePlan, pool: str) -> str:
    return (
        f"# Workspace {config.name}\n\n{config.description}\n\n"
        f"- problem: {config.problem.value}\n"
        f"- manager: {config.manager}; members: {', '.join(config.members) or 'none'}\n"
        f"- work queue: `{wanted.queue}` in pool `{pool}`\n"
        f"- slots: {config.training_slots} for training, {config.serving_slots} for serving\n"
        f"- MLflow experiment: `{wanted.experiment}`\n"
        f"- storage: `{wanted.storage_prefix}`\n"
    )
