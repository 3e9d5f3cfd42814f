"""What several stages' suites share: one MLflow server, and small datasets in a store of each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlflow import MlflowClient

from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.stored_datasets import store_images
from tests.helpers.trained import iris_dataset


@pytest.fixture(scope="session")
def mlflow_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowProcess]:
    """A real MLflow server on SQLite, started when the first test asks for it."""
    process = MlflowProcess(tmp_path_factory.mktemp("mlflow"))
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def client(mlflow_process: MlflowProcess) -> MlflowClient:
    return mlflow_process.client()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> DatasetStore:
    return DatasetStore(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def iris(store: DatasetStore) -> DatasetRef:
    return iris_dataset(store)


@pytest.fixture(scope="module")
def pictures(store: DatasetStore) -> DatasetRef:
    rows = {
        split: [(f"{split}/{number}", number % 2) for number in range(count)]
        for split, count in {"train": 24, "validation": 8, "test": 6}.items()
    }
    return store_images(store, "pictures", rows, ("dark", "light"))
