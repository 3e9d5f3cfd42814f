"""Evaluations kept beside their MLflow run, and read back.

evaluation/<split>/evaluation.json                of the run's own dataset version
evaluation/<split>/predictions.parquet
evaluation/<split>-<version>/…                    of another version, such as a challenger's
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from tasks.data.read import read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged, NotFound
from tasks.evaluate.evaluate import Predictions, evaluate
from tasks.evaluate.evaluation import Evaluation
from tasks.refs import DatasetRef, EvaluationRef
from tasks.train.bundle import Bundle
from tasks.train.mlflow_model import download_bundle

if TYPE_CHECKING:
    from mlflow import MlflowClient

EVALUATION_FILE = "evaluation.json"
PREDICTIONS_FILE = "predictions.parquet"


def evaluate_and_record(
    run_id: str,
    model_uri: str,
    dataset: DatasetRef,
    split: str,
    store: DatasetStore,
    client: MlflowClient,
    models_folder: Path,
    *,
    as_the_runs_own: bool = True,
) -> EvaluationRef:
    """Evaluate a logged model on a split and keep the result beside its run.

    Args:
        run_id: The run that trained the model.
        model_uri: The model.
        dataset: The version to evaluate on; the run's own, or any with the same raw features.
        split: Name of the split.
        store: Where dataset versions are.
        client: MLflow.
        models_folder: Downloaded bundles are kept here.
        as_the_runs_own: Whether this may be the run's own evaluation, with its metrics; a champion
            that is measured again for a comparison must leave that as it is.

    Raises:
        NotFound: The run, the model or the split is gone.
        InvalidData: The model does not know the dataset's classes.
    """
    bundle = Bundle.load(download_bundle(client, model_uri, models_folder))
    raw = read_raw_rows(store, dataset, split)
    fit_time_s = client.get_run(run_id).data.metrics.get("fit_time_s")
    own = as_the_runs_own and bundle.description.dataset.digest == dataset.digest
    manifest = store.open(dataset)
    others = [(name, rows) for name, rows in manifest.splits.items() if rows and name != split]
    evaluation, predictions = evaluate(
        bundle,
        raw,
        dataset,
        split,
        manifest.classes,
        fit_time_s,
        others if own else (),
        lambda name, rows: read_raw_rows(store, dataset, name, rows, spread=True),
    )
    return record(client, run_id, evaluation, predictions, own_dataset=own)


def record(
    client: MlflowClient, run_id: str, evaluation: Evaluation, predictions: Predictions, *, own_dataset: bool
) -> EvaluationRef:
    """Keep an evaluation.

    Args:
        client: MLflow.
        run_id: The run whose model was evaluated.
        evaluation: What was measured.
        predictions: The rows behind it.
        own_dataset: Whether the rows are of the dataset version that the run was trained on; only
            then its metrics become the run's.
    """
    folder = f"evaluation/{evaluation.split}"
    if not own_dataset:
        folder += f"-{evaluation.dataset.version}"
    content = (evaluation.model_dump_json(indent=1, by_alias=True) + "\n").encode()
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, EVALUATION_FILE).write_bytes(content)
        predictions.frame().to_parquet(Path(scratch, PREDICTIONS_FILE), index=False)
        client.log_artifacts(run_id, scratch, artifact_path=folder)
    if own_dataset:
        now_ms = int(time.time() * 1000)
        measured = {evaluation.split: evaluation.metrics}
        measured |= {other.split: other.metrics for other in evaluation.other_splits}
        named = {
            f"{_prefix(split)}_{name}": value
            for split, metrics in measured.items()
            for name, value in metrics.items()
        }
        named["latency_p50_ms"] = evaluation.costs.latency_p50_ms
        client.log_batch(run_id, metrics=[Metric(k, v, now_ms, 0) for k, v in named.items()])
    return EvaluationRef(
        run_id=run_id,
        dataset=evaluation.dataset,
        split=evaluation.split,
        rows=evaluation.rows,
        metrics=evaluation.metrics,
        uri=f"runs:/{run_id}/{folder}",
        digest=hashlib.sha256(content).hexdigest(),
    )


def held_out_split(splits: Mapping[str, int]) -> str:
    """The split that tells most about new rows: test, or else what was held out next.

    Args:
        splits: Rows by split.
    """
    return next(name for name in ("test", "validation", *splits) if splits.get(name))


def _prefix(split: str) -> str:
    """Begins the names of a split's metrics; those of a fit's own splits have the names of its curves."""
    return split if split == "test" else f"evaluated_{split}"


def load_evaluation(client: MlflowClient, ref: EvaluationRef) -> Evaluation:
    """Read an evaluation back.

    Raises:
        NotFound: It is gone, or its run is.
        Damaged: It is not the one that the reference was made from.
    """
    with tempfile.TemporaryDirectory() as scratch:
        content = _download(client, ref, EVALUATION_FILE, scratch).read_bytes()
    if hashlib.sha256(content).hexdigest() != ref.digest:
        raise Damaged(
            "the evaluation is not the one that was referred to", where=ref.uri, mend="evaluate again"
        )
    return Evaluation.model_validate_json(content)


def load_predictions(client: MlflowClient, ref: EvaluationRef) -> pd.DataFrame:
    """Read an evaluation's predictions back: see `Predictions.frame`.

    Raises:
        NotFound: They are gone, or the run is.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return pd.read_parquet(_download(client, ref, PREDICTIONS_FILE, scratch))


def _download(client: MlflowClient, ref: EvaluationRef, name: str, folder: str) -> Path:
    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"{ref.uri}/{name}", dst_path=folder)
    except (MlflowException, OSError) as error:
        raise NotFound(f"MLflow has no {name}", where=ref.uri, mend="evaluate again") from error
    return Path(path)
