"""Reports of a real training appear as artifacts: pages that say what was measured, small pictures."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from PIL import Image
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.context import FlowRunContext
from sklearn.datasets import load_diabetes, load_iris

from blocks.docs_site import DocsSite
from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from tasks.data.delivery import remove_links
from tasks.data.storage.store import DatasetStore
from tasks.evaluate.records import evaluate_and_record
from tasks.refs import DatasetRef, EndpointRef, EvaluationRef, ModelVersionRef, Problem, RunRef
from tasks.register.config import GateConfig
from tasks.register.gate import Decision, Scored, decide
from tasks.report import style
from tasks.report import task as report_stage
from tasks.train.config import TrainConfig
from tasks.train.train import train
from tests.helpers.stored_datasets import store_images, store_table

SITE = "report-suite"


@flow
def report(dataset: DatasetRef, run: RunRef, evaluation: EvaluationRef) -> str:
    report_stage.report_dataset(dataset, SITE)
    report_stage.report_training(run, SITE)
    report_stage.report_evaluation(evaluation, SITE)
    return _flow_run_id()


@flow
def summarise(run: RunRef, evaluation: EvaluationRef, endpoint: EndpointRef | None) -> str:
    version = ModelVersionRef(
        name="iris", version=1, run_id=run.run_id, model_uri=run.model_uri, digest=run.digest
    )
    report_stage.report_summary(
        evaluation.dataset, run, evaluation, version, _decision(evaluation), endpoint, SITE
    )
    return _flow_run_id()


def _flow_run_id() -> str:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return str(context.flow_run.id)


def _decision(evaluation: EvaluationRef) -> Decision:
    scored = Scored(
        version=1, digest="0", metrics=evaluation.metrics, dataset="0", split="test", rows=evaluation.rows
    )
    return decide(scored, None, "accuracy", True, GateConfig())


def _artifacts(flow_run_id: str) -> dict[str, Any]:
    only = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        return {artifact.key or "": artifact for artifact in client.read_artifacts(artifact_filter=only)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("report")
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    MlflowClient(uri).create_experiment("default", artifact_location=str(folder / "artifacts"))
    MlflowServer(tracking_uri=uri).save(SITE, overwrite=True)
    ObjectStore(url=str(folder / "store")).save(SITE, overwrite=True)
    DocsSite(folder=str(folder / "docs"), url="http://127.0.0.1:4300").save(SITE, overwrite=True)
    yield folder
    mlflow.set_tracking_uri(before)


def _trained(home: Path, ref: DatasetRef, algorithm: str, **settings: Any) -> tuple[RunRef, EvaluationRef]:
    store = DatasetStore(str(home / "store"))
    client = MlflowClient(mlflow.get_tracking_uri())
    config = TrainConfig(algorithm=algorithm, hyperparameters=settings)
    run = train(ref, config, store, client, home / "work" / ref.name)
    return run, evaluate_and_record(run.run_id, run.model_uri, ref, "test", store, client, home / "models")


@pytest.fixture(scope="module")
def iris(home: Path) -> tuple[RunRef, EvaluationRef]:
    loaded = load_iris(as_frame=True)
    frame = loaded.data.assign(label=loaded.target).sample(frac=1, random_state=0)
    frames = {"train": frame[:100], "validation": frame[100:125], "test": frame[125:]}
    classes = ("setosa", "versicolor", "virginica")
    store = DatasetStore(str(home / "store"))
    ref = store_table(store, "iris", frames, Problem.TABLE_CLASSIFICATION, classes)
    return _trained(home, ref, "mlp", epochs=3)


def test_pages_and_pictures_of_a_table(iris: tuple[RunRef, EvaluationRef], home: Path) -> None:
    run, evaluation = iris
    artifacts = _artifacts(report(run.dataset, run, evaluation))
    assert set(artifacts) == {
        "dataset-summary",
        "class-balance",
        "training-summary",
        "learning-curves",
        "evaluation",
        "confusion-matrix",
        "class-curves",
        "calibration",
        "column-importance",
    }
    client = MlflowClient(mlflow.get_tracking_uri())
    beside = {file.path.rsplit("/", 1)[1] for file in client.list_artifacts(run.run_id, "evaluation/test")}
    assert {"confusion-matrix.png", "class-curves.png", "calibration.png", "column-importance.png"} < beside
    assert "petal length (cm)" in artifacts["dataset-summary"].data
    assert f"/runs/{run.run_id}" in artifacts["training-summary"].data
    assert "| metric | train | validation | test |" in artifacts["evaluation"].data
    assert "## Classes" in artifacts["evaluation"].data
    of_version = f"datasets/iris/{run.dataset.version}/samples"
    folders = {"class-balance": of_version, "learning-curves": "pictures", "confusion-matrix": "pictures"}
    for key, folder in folders.items():
        address = artifacts[key].data
        assert address.startswith(f"http://127.0.0.1:4300/{folder}/")
        picture = (home / "docs" / folder / address.rsplit("/", 1)[1]).read_bytes()
        assert len(picture) <= style.MAX_PNG_BYTES
        assert Image.open(io.BytesIO(picture)).format == "PNG"


def test_pages_and_pictures_of_images_and_of_a_regression(home: Path) -> None:
    store = DatasetStore(str(home / "store"))
    splits = {"train": 40, "validation": 10, "test": 10}
    rows: dict[str, list[tuple[str, int | None]]] = {
        split: [(f"{split}/{i}.png", i % 2) for i in range(count)] for split, count in splits.items()
    }
    pictures = store_images(store, "squares", rows, ("dark", "light"))
    run, evaluation = _trained(home, pictures, "six_layer_cnn", epochs=1, width=4)
    found = _artifacts(report(pictures, run, evaluation))
    assert "learning-curves" not in found, "one epoch has no curve"
    shown = home / "docs" / found["sample-images"].data.removeprefix("http://127.0.0.1:4300/")
    assert shown.exists()
    remove_links(home / "docs", "squares", [pictures.version])
    assert not shown.exists(), "deleted rows are still to be seen"
    if "mistakes" in found:
        picture = found["mistakes"].data.removeprefix("http://127.0.0.1:4300/")
        assert picture.startswith(f"datasets/squares/{pictures.version}/samples/")
        assert not (home / "docs" / picture).exists(), "mistakes are rows of the dataset, and deleted with it"

    frame = load_diabetes(as_frame=True).frame.rename(columns={"target": "label"})
    frames = {"train": frame[:300], "validation": frame[300:370], "test": frame[370:]}
    ref = store_table(store, "diabetes", frames, Problem.TABLE_REGRESSION)
    run, evaluation = _trained(home, ref, "linear_regression")
    artifacts = _artifacts(report(ref, run, evaluation))
    assert "predicted-against-true" in artifacts
    assert "column-importance" in artifacts
    assert "class-balance" not in artifacts
    assert "## Most wrong" in artifacts["evaluation"].data
    assert "**rmse**" in artifacts["evaluation"].data


def test_the_summary_leads_everywhere(iris: tuple[RunRef, EvaluationRef], home: Path) -> None:
    run, evaluation = iris
    for age, limits in enumerate(("newer", "older", "oldest")):
        page = home / "docs" / "datasets" / "iris" / run.dataset.version / limits / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text("<p>Data Docs</p>")
        os.utime(page, (1e9 - age, 1e9 - age))
    endpoint = EndpointRef(
        name="iris",
        url="http://127.0.0.1:3000/v1/models/iris:predict",
        model="iris",
        alias="champion",
        version=1,
        token_file="/home/secrets/endpoint-iris.token",
        curl="curl -sS http://127.0.0.1:3000/v1/models/iris:predict",
    )
    text = _artifacts(summarise(run, evaluation, endpoint))["retrain-summary"].data
    assert "promoted to champion" in text
    assert f"http://127.0.0.1:4300/datasets/iris/{run.dataset.version}/newer/index.html" in text
    assert f"/runs/{run.run_id}" in text
    assert "/#/models/iris/versions/1" in text
    assert "curl -sS http://127.0.0.1:3000/v1/models/iris:predict" in text

    without = _artifacts(summarise(run, evaluation, None))["retrain-summary"].data
    assert "curl" not in without
