"""Predict many rows at once with a registered model."""

from __future__ import annotations

from prefect import flow

from tasks.predict import task as predict_stage
from tasks.predict.config import PredictConfig, PredictionResult
from tasks.register import task as register_stage


@flow(name="predict", flow_run_name="predict with {prediction.model}")
def predict_batch(prediction: PredictConfig, site: str = "local") -> PredictionResult:
    """Run batch inference on Dask over files or images, and keep the results in a new folder.

    Args:
        prediction: The model, the inputs and where the results go.
        site: Which set of blocks to run on.
    """
    version = register_stage.find_version(prediction.model, prediction.version, site)
    return predict_stage.predict_batch(version, prediction, site)
