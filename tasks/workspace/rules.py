"""What may be done in a workspace. Plain decisions: no service is asked."""

from __future__ import annotations

from tasks.errors import InvalidSettings, NotAllowed
from tasks.refs import LOCAL_USER
from tasks.workspace.config import WorkspaceConfig


def require_may_stop(job_user: str, job_workspace: WorkspaceConfig | None, user: str) -> None:
    """Check that `user` may stop a job: one's own, or any in a workspace that one manages.

    Args:
        job_user: User who started the job; empty where that is not known.
        job_workspace: Workspace that the job runs in, if any.
        user: User who wants to stop it.

    Raises:
        NotAllowed: It is someone else's, and the user does not manage its workspace.
    """
    if job_user == user or (job_workspace is not None and job_workspace.manager == user):
        return
    if not job_user and job_workspace is None:  # started by the system or an operator, for nobody
        return
    people = [name for name in (job_user, job_workspace.manager if job_workspace else "") if name]
    raise NotAllowed(
        f"The user {user} may not stop this job",
        where=f"job of {job_user or 'workspace ' + job_workspace.name}",  # type: ignore[union-attr]
        allowed=" or ".join(people),
        mend="ask one of them to stop it",
    )


def require_may_change(before: WorkspaceConfig, user: str) -> None:
    """Check that `user` may change a workspace: its manager, or the operator, who has no tag.

    Raises:
        NotAllowed: Somebody else manages it.
    """
    if user not in (before.manager, LOCAL_USER):
        raise NotAllowed(
            f"The user {user} may not change this workspace",
            where=f"workspace {before.name}",
            allowed=before.manager,
            mend="ask the manager to change it",
        )


def require_same_problem(before: WorkspaceConfig, after: WorkspaceConfig) -> None:
    """Check that a change of settings leaves the problem as it was defined.

    Raises:
        InvalidSettings: The problem differs.
    """
    if before.problem != after.problem:
        raise InvalidSettings(
            f"The problem of a workspace is fixed; this would change it to {after.problem.value}",
            where=f"workspace {after.name}",
            allowed=before.problem.value,
            mend="make a new workspace for the new problem",
        )
