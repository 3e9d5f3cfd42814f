"""What several stages' suites share: one MLflow server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.serving_stack import MlflowProcess


@pytest.fixture(scope="session")
def mlflow_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowProcess]:
    """A real MLflow server on SQLite, started when the first test asks for it."""
    process = MlflowProcess(tmp_path_factory.mktemp("mlflow"))
    process.start()
    yield process
    process.stop()
