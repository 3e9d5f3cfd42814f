"""Workspaces as they were applied last, read from their blocks."""

from __future__ import annotations

from pydantic import ValidationError

from blocks.workspace import Workspace
from tasks.errors import InvalidSettings, NotFound
from tasks.workspace.config import WorkspaceConfig


def load_workspace(name: str) -> WorkspaceConfig:
    """Load a workspace's settings as applied last.

    Raises:
        NotFound: There is no such workspace.
        InvalidSettings: Its block was changed by hand to something that is not a workspace.
    """
    try:
        block = Workspace.load(block_name(name))
    except ValueError:
        raise NotFound(
            f"There is no workspace {name}", mend="apply it first, with the workspace flow"
        ) from None
    settings = {field: getattr(block, field) for field in WorkspaceConfig.model_fields}
    try:
        return WorkspaceConfig.model_validate(settings)
    except ValidationError as error:
        raise InvalidSettings(
            f"The block of workspace {name} does not hold a workspace: {error}", mend="apply it again"
        ) from error


def block_name(workspace: str) -> str:
    """Name of the block document that holds a workspace's settings."""
    return f"workspace-{workspace}"
