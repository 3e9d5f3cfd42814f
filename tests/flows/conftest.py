"""One ephemeral Prefect server for the whole flow suite, and one MLflow for the flows that train."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.testing.utilities import prefect_test_harness

from blocks.docs_site import DocsSite
from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.trained import SITE, iris_dataset

ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    """Run flows against a temporary database and a temporary result storage."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowProcess]:
    process = MlflowProcess(tmp_path_factory.mktemp("mlflow"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def iris(mlflow_server: MlflowProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetRef:
    """Iris in a store of its own at `SITE`, where code may come from the assets and the test's folder."""
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "home"))
    MlflowServer(tracking_uri=mlflow_server.uri).save(SITE, overwrite=True)
    ObjectStore(url=str(tmp_path / "store"), source_roots=[str(ASSETS), str(tmp_path)]).save(
        SITE, overwrite=True
    )
    DocsSite(folder=str(tmp_path / "docs"), url="http://127.0.0.1:4300").save(SITE, overwrite=True)
    return iris_dataset(DatasetStore(str(tmp_path / "store")), name=f"iris-{uuid4().hex[:8]}")
