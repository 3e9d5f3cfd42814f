"""Small trainings with their evaluations in a real MLflow, for tests of registry and serving."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient

from tasks.data.storage.store import DatasetStore
from tasks.evaluate.records import evaluate_and_record
from tasks.refs import DatasetRef, EvaluationRef, Problem, RunRef
from tasks.train.config import TrainConfig
from tasks.train.train import train
from tests.helpers.models import SPECIES, iris_rows
from tests.helpers.stored_datasets import store_table

SITE = "training-flows"
"""Site of the blocks that flows which train are tested with."""


def iris_dataset(store: DatasetStore, name: str = "iris", rows: slice = slice(None)) -> DatasetRef:
    """Iris with its three splits."""
    frame, labels = iris_rows()
    frame = frame.assign(label=labels).sample(frac=1.0, random_state=0).iloc[rows]
    parts = {"train": frame[:90], "validation": frame[90:110], "test": frame[110:]}
    return store_table(store, name, parts, Problem.TABLE_CLASSIFICATION, SPECIES)


def train_and_evaluate(
    store: DatasetStore,
    client: MlflowClient,
    folder: Path,
    dataset: DatasetRef,
    algorithm: str,
    **hyperparameters: Any,
) -> tuple[RunRef, EvaluationRef]:
    """One training, and how it did on the test split."""
    config = TrainConfig(algorithm=algorithm, hyperparameters=hyperparameters)
    run = train(dataset, config, store, client, folder / f"work-{uuid.uuid4().hex[:8]}")
    evaluation = evaluate_and_record(
        run.run_id, run.model_uri, dataset, "test", store, client, folder / "models"
    )
    assert np.isfinite(list(evaluation.metrics.values())).all()
    return run, evaluation
