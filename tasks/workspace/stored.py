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
        settings = {field: getattr(block, field) for field in WorkspaceConfig.model_fields}
        return WorkspaceConfig.model_validate(settings)
    except (ValidationError, RuntimeError) as error:  # Prefect's error of a block is a RuntimeError
        raise InvalidSettings(
            f"The block of workspace {name} does not hold a workspace: {error.__cause__ or error}",
            mend="correct it in the Prefect pages, under Blocks",
        ) from error
    except ValueError:
        raise NotFound(
            f"There is no workspace {name}", mend="apply it first, with the workspace flow"
        ) from None


def block_name(workspace: str) -> str:
    """Name of the block document that holds a workspace's settings."""
    return f"workspace-{workspace}"
