"""Stacks for the integration tests: each in its own folder, on spare ports, stopped at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.local_stack import SCRATCH_DEPLOYMENTS, LocalStack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The stack with the deployments that ship; one for the whole session."""
    stack = LocalStack(tmp_path_factory.mktemp("stack") / "home")
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="module")
def scratch_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack with a few deployments that need nothing but Prefect."""
    stack = LocalStack(tmp_path_factory.mktemp("scratch") / "home", SCRATCH_DEPLOYMENTS)
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


@pytest.fixture
def signs(tmp_path: Path) -> Path:
    """A folder in which flow runs leave signs of their progress."""
    folder = tmp_path / "signs"
    folder.mkdir()
    return folder
