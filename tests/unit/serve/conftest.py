"""One supervisor for the whole suite, beside the one MLflow server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.serve.endpoints import Host
from tests.helpers.models import digits_bundle, iris_bundle
from tests.helpers.serving_stack import MlflowProcess, free_port, short_folder, supervisor


@dataclass(frozen=True)
class Stack:
    """What endpoints need around them."""

    home: Path
    mlflow: MlflowProcess
    host: Host
    bundles: dict[str, Path]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles by name: two of iris that differ, one of digits."""
    folder = tmp_path_factory.mktemp("bundles")
    iris_bundle(folder / "iris")
    iris_bundle(folder / "iris-weaker", inverse_penalty=0.01)
    digits_bundle(folder / "digits")
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="session")
def stack(bundles: dict[str, Path], mlflow_process: MlflowProcess) -> Iterator[Stack]:
    with short_folder() as home, supervisor(home):
        host = Host(home=home, tracking_uri=mlflow_process.uri, first_port=free_port())
        yield Stack(home, mlflow_process, host, bundles)
