"""One ephemeral Prefect server for the whole flow suite, and one MLflow for the flows that train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.testing.utilities import prefect_test_harness

from blocks.dask_cluster import DaskCluster
from blocks.docs_site import DocsSite
from blocks.endpoint_host import EndpointHost
from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef
from tests.helpers import training_site
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


@pytest.fixture(scope="module")
def trainings_home(tmp_path_factory: pytest.TempPathFactory, mlflow_server: MlflowProcess) -> Iterator[Path]:
    """The data folder of a site with iris, where `train/step` and `ingest/step` are deployed."""
    folder, site = tmp_path_factory.mktemp("trainings"), training_site.SITE
    MlflowServer(tracking_uri=mlflow_server.uri).save(site, overwrite=True)
    ObjectStore(url=str(folder / "store")).save(site, overwrite=True)
    DocsSite(folder=str(folder / "docs"), url="http://127.0.0.1:1").save(site, overwrite=True)
    DaskCluster(n_workers=1).save(site, overwrite=True)
    EndpointHost(home=str(folder)).save(site, overwrite=True)
    iris_dataset(DatasetStore(str(folder / "store")))
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name="local", type="process"))
        for queue in ("low", "default", "training"):
            if queue not in {one.name for one in client.read_work_queues(work_pool_name="local")}:
                client.create_work_queue(queue, work_pool_name="local")
        made = [
            training_site.deploy(client, "flows.train.train_model", site, queue="training"),
            training_site.deploy(client, "flows.ingest.ingest_data", site),
        ]
    yield folder
    with get_client(sync_client=True) as client:
        training_site.forget(client, made)


@pytest.fixture
def home(trainings_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, as the data folder of this process."""
    monkeypatch.setenv("TRAINYARD_HOME", str(trainings_home))
    return trainings_home


@pytest.fixture
def mlflow(mlflow_server: MlflowProcess) -> MlflowClient:
    return mlflow_server.client()


@pytest.fixture
def prefect() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client
