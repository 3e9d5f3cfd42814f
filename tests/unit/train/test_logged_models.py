"""Models as a real MLflow keeps and opens them."""

from __future__ import annotations

import base64
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from tasks.data.read import read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import NotFound
from tasks.refs import DatasetRef
from tasks.train.bundle import Bundle
from tasks.train.config import TrainConfig
from tasks.train.mlflow_model import download_bundle
from tasks.train.train import train
from tests.helpers.models import iris_rows

ROOT = Path(__file__).resolve().parents[3]
QUICK_CNN = {"width": 4, "epochs": 3}


def test_an_alias_is_the_model_that_it_stands_for_and_moves_no_files(
    iris: DatasetRef, store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    run = train(iris, TrainConfig(algorithm="logistic_regression"), store, client, tmp_path / "work")
    client.create_registered_model("starts")
    version = client.create_model_version(
        "starts", run.model_uri, run.run_id, model_id=run.model_uri.removeprefix("models:/")
    )
    client.set_registered_model_alias("starts", "champion", version.version)
    models = tmp_path / "models"
    with ThreadPoolExecutor() as pool:
        uris = ["models:/starts@champion", f"models:/starts/{version.version}", run.model_uri] * 2
        folders = set(pool.map(lambda uri: download_bundle(client, uri, models), uris))
    assert folders == {models / run.model_uri.removeprefix("models:/")}
    [folder] = folders
    fetched = folder.stat().st_ino
    assert download_bundle(client, "models:/starts@champion", models).stat().st_ino == fetched
    assert [path for path in models.iterdir() if not path.name.startswith(".")] == [folder]
    with pytest.raises(NotFound, match="no bundle of the model models:/starts@nobody"):
        download_bundle(client, "models:/starts@nobody", models)


@pytest.mark.parametrize("algorithm", ["logistic_regression", "lightgbm", "mlp"])
def test_mlflow_predicts_what_the_bundle_predicts(
    algorithm: str, iris: DatasetRef, store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    run = train(iris, TrainConfig(algorithm=algorithm), store, client, tmp_path / "work")
    bundle = Bundle.load(download_bundle(client, run.model_uri, tmp_path))
    frame, _ = iris_rows()
    model = mlflow.pyfunc.load_model(run.model_uri)
    np.testing.assert_array_equal(model.predict(frame), bundle.predict_table(frame))
    example = model.input_example
    assert list(example.columns) == list(frame.columns)


def test_mlflow_takes_images_as_base64(
    pictures: DatasetRef, store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    run = train(pictures, TrainConfig(hyperparameters=QUICK_CNN), store, client, tmp_path / "work")
    raw = read_raw_rows(store, pictures, "test")
    assert raw.contents is not None
    assert raw.images is not None
    frame = pd.DataFrame({"data": [base64.b64encode(content).decode() for content in raw.contents]})
    bundle = Bundle.load(download_bundle(client, run.model_uri, tmp_path))
    model = mlflow.pyfunc.load_model(run.model_uri)
    np.testing.assert_array_equal(model.predict(frame), bundle.predict_images(raw.images))


def test_a_logged_model_opens_where_trainyard_is_not_installed(
    iris: DatasetRef, store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    run = train(iris, TrainConfig(algorithm="logistic_regression"), store, client, tmp_path / "work")
    script = (
        "import importlib.util, sys;"
        f"sys.path = [path for path in sys.path if path != {str(ROOT)!r}];"
        "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder)];"
        "assert importlib.util.find_spec('tasks') is None;"
        "import mlflow;"
        f"mlflow.set_tracking_uri({client.tracking_uri!r});"
        f"model = mlflow.pyfunc.load_model({run.model_uri!r});"
        "print(model.predict(model.input_example).shape)"
    )
    answer = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.stdout.strip() == "(3, 3)", answer.stderr


def test_nothing_pickled_is_logged(
    iris: DatasetRef, store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    run = train(iris, TrainConfig(algorithm="random_forest"), store, client, tmp_path / "work")
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=run.model_uri, dst_path=str(tmp_path)))
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"bundle.json", "model.skops", "pyfunc_model.py", "trainyard.zip"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".joblib"))]
