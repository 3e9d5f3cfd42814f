"""What a workspace consists of: the names that applying it makes real."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from tasks.refs import WORKSPACE_TAG
from tasks.workspace.config import WorkspaceConfig


class WorkspacePlan(BaseModel):
    """Everything of one workspace, by the system that keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue: str = Field(description="Work queue that the workspace's flow runs wait in.")
    experiment: str = Field(description="MLflow experiment that its runs are recorded in.")
    experiment_tags: dict[str, str] = Field(description="Tags of the experiment.")
    storage_prefix: str = Field(description="Folder of the workspace, below the object store's root.")
    run_tags: list[str] = Field(description="Tags that mark a flow run as the workspace's.")


def plan(config: WorkspaceConfig) -> WorkspacePlan:
    """Derive the plan from the settings. The same settings always give the same plan."""
    return WorkspacePlan(
        queue=f"workspace-{config.name}",
        experiment=config.name,
        experiment_tags={
            "trainyard.workspace": config.name,
            "trainyard.problem": config.problem.value,
            "trainyard.manager": config.manager,
            "mlflow.note.content": config.description or config.goal,
        },
        storage_prefix=f"workspaces/{config.name}",
        run_tags=[WORKSPACE_TAG + config.name],
    )
