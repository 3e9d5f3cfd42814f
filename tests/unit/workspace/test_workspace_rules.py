"""Who may stop what; and what a workspace consists of."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from blocks.workspace import Workspace
from tasks.errors import InvalidSettings, NotAllowed
from tasks.refs import Problem
from tasks.workspace import rules
from tasks.workspace.config import WorkspaceConfig
from tasks.workspace.plan import plan


def _workspace(**change: object) -> WorkspaceConfig:
    settings = {"name": "vision", "manager": "ada", "members": ["bob"], **change}
    return WorkspaceConfig.model_validate(settings)


def test_a_job_is_stopped_by_its_user_or_the_manager() -> None:
    rules.require_may_stop("bob", _workspace(), "bob")
    rules.require_may_stop("bob", _workspace(), "ada")
    rules.require_may_stop("", None, "eve")
    with pytest.raises(NotAllowed, match="bob or ada"):
        rules.require_may_stop("bob", _workspace(), "eve")
    with pytest.raises(NotAllowed):
        rules.require_may_stop("bob", None, "ada")


def test_a_workspace_is_changed_by_its_manager() -> None:
    rules.require_may_change(_workspace(), "ada")
    rules.require_may_change(_workspace(), "local")  # who comes without a name
    with pytest.raises(NotAllowed, match="bob may not change"):
        rules.require_may_change(_workspace(), "bob")


def test_the_problem_is_fixed() -> None:
    before = _workspace()
    rules.require_same_problem(before, _workspace(goal="better"))
    with pytest.raises(InvalidSettings, match="image-classification"):
        rules.require_same_problem(before, _workspace(problem=Problem.TABLE_REGRESSION))


@pytest.mark.parametrize(
    "change",
    [{"name": "No Spaces"}, {"name": "-a"}, {"members": ["bob", "bob"]}, {"unknown": 1}],
)
def test_bad_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        _workspace(**change)


def test_plan_names_every_part_after_the_workspace() -> None:
    parts = plan(_workspace())
    assert parts.queue == "workspace-vision"
    assert parts.experiment == "vision"
    assert parts.storage_prefix == "workspaces/vision"
    assert parts.experiment_tags["trainyard.workspace"] == "vision"


def test_the_block_holds_every_setting() -> None:
    own = set(WorkspaceConfig.model_fields)
    assert own <= set(Workspace.model_fields)
    block = Workspace(**_workspace().model_dump(mode="json"))
    assert {name: getattr(block, name) for name in own} == _workspace().model_dump()
