"""Workspaces, and the jobs that run in them."""

from __future__ import annotations

from prefect import flow

from tasks.workspace import task as workspace_stage
from tasks.workspace.config import JobsConfig, WorkspaceConfig


@flow(name="apply-workspace", flow_run_name="apply {workspace.name}")
def apply_workspace(workspace: WorkspaceConfig, site: str = "local", pool: str = "local") -> None:
    """Create a workspace or change it: its queue, experiment and storage folder.

    Args:
        workspace: What the workspace is, and who works in it.
        site: Which set of blocks to run on.
        pool: The work pool that gets the workspace's queue.
    """
    workspace_stage.apply_workspace(workspace, site, pool)


@flow(name="list-jobs")
def list_jobs(jobs: JobsConfig = JobsConfig()) -> None:
    """Show running and waiting jobs as the artifact `jobs`.

    Args:
        jobs: Which jobs to list.
    """
    workspace_stage.list_jobs(jobs)


@flow(name="stop-job", flow_run_name="stop {flow_run_id}")
def stop_job(flow_run_id: str, user: str) -> str:
    """Stop a job: one's own, or any as the manager of its workspace.

    Args:
        flow_run_id: The job's flow run, as the list of jobs shows it.
        user: The user who asks.
    """
    return workspace_stage.stop_job(flow_run_id, user)
