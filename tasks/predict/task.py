"""The batch inference step."""

from __future__ import annotations

import time
from typing import cast
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from tasks.cluster import dask_client
from tasks.data.task import closed_folders
from tasks.home import home
from tasks.predict.config import PredictConfig, PredictionResult
from tasks.refs import ModelVersionRef

REPORT_EVERY_S = 2.0


@task(name="predict", task_run_name="predict with {version.name} v{version.version}")
def predict_batch(version: ModelVersionRef, config: PredictConfig, site: str = "local") -> PredictionResult:
    """Predict all rows of files or images on Dask, and publish where the results are."""
    from tasks.predict.predict import predict
    from tasks.train.mlflow_model import download_bundle

    folder = download_bundle(
        cast(MlflowServer, MlflowServer.load(site)).client(), version.model_uri, home() / "work" / "models"
    )
    log = get_run_logger()
    progress = cast(
        UUID, create_progress_artifact(progress=0.0, key="batch-inference", description="Batch inference")
    )
    shown_at = 0.0

    def report(rows: int, errors: int, total: int | None) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at < REPORT_EVERY_S:
            return
        shown_at = time.monotonic()
        log.info("%s rows done, %s of them without a prediction.", f"{rows:,}", f"{errors:,}")
        if total:
            update_progress_artifact(progress, progress=min(99.0, 100.0 * rows / total))

    store = cast(ObjectStore, ObjectStore.load(site))
    with dask_client(site) as client:
        result = predict(
            config,
            version,
            folder,
            client,
            store.storage_options,
            report,
            store.source_roots,
            closed=closed_folders(store),
        )
    update_progress_artifact(progress, progress=100.0)
    create_table_artifact(
        key="batch-inference-result",
        table=[{"what": name, "is": str(value)} for name, value in result.model_dump().items()],
        description=f"{result.rows:,} rows predicted with {version}",
    )
    log.info(
        "%s rows in %.1f s, %s without a prediction: %s",
        f"{result.rows:,}",
        result.seconds,
        f"{result.errors:,}",
        result.url,
    )
    return result
