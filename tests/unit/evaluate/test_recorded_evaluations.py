"""Evaluations beside their trainings in a real MLflow."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from tasks.data.read import read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged, InvalidData
from tasks.evaluate.records import evaluate_and_record, load_evaluation, load_predictions
from tasks.refs import DatasetRef, Problem
from tasks.train.bundle import Bundle
from tasks.train.config import TrainConfig
from tasks.train.mlflow_model import download_bundle
from tasks.train.train import train
from tests.helpers.models import SPECIES, iris_rows
from tests.helpers.stored_datasets import store_table


def test_an_evaluation_is_kept_beside_its_run(
    iris: DatasetRef, store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    run = train(iris, TrainConfig(algorithm="logistic_regression"), store, client, tmp_path / "work")
    ref = evaluate_and_record(run.run_id, run.model_uri, iris, "test", store, client, tmp_path)
    assert ref.rows == 40
    assert ref.metrics["accuracy"] >= 0.93
    assert client.get_run(run.run_id).data.metrics["test_accuracy"] == ref.metrics["accuracy"]

    evaluation = load_evaluation(client, ref)
    assert np.sum(evaluation.confusion) == 40
    assert [row.name for row in evaluation.per_class] == list(SPECIES)
    assert evaluation.interval[0] <= ref.metrics["accuracy"] <= evaluation.interval[1]
    assert evaluation.costs.parameters == 15
    assert evaluation.costs.bundle_size_bytes > 100
    assert evaluation.costs.latency_p50_ms > 0
    assert evaluation.costs.fit_time_s is not None

    rows = load_predictions(client, ref)
    raw = read_raw_rows(store, iris, "test")
    bundle = Bundle.load(download_bundle(client, run.model_uri, tmp_path))
    assert rows["id"].tolist() == raw.ids
    np.testing.assert_array_equal(np.stack(rows["scores"].to_list()), bundle.predict_table(raw.table))
    assert (rows["prediction"] == rows["label"]).mean() == ref.metrics["accuracy"]
    with pytest.raises(Damaged, match="not the one"):
        load_evaluation(client, ref.model_copy(update={"digest": "0" * 64}))


def test_another_datasets_evaluation_leaves_the_runs_own_alone(
    iris: DatasetRef, store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    run = train(iris, TrainConfig(algorithm="logistic_regression"), store, client, tmp_path / "work")
    own = evaluate_and_record(run.run_id, run.model_uri, iris, "test", store, client, tmp_path)
    frame, labels = iris_rows()
    # The same flowers with their classes in another order: names count, not numbers.
    swapped = frame.assign(label=2 - labels)
    other = store_table(store, "swapped", {"test": swapped}, Problem.TABLE_CLASSIFICATION, SPECIES[::-1])
    ref = evaluate_and_record(run.run_id, run.model_uri, other, "test", store, client, tmp_path)
    assert ref.metrics["accuracy"] > 0.9
    assert ref.uri != own.uri
    again = evaluate_and_record(
        run.run_id, run.model_uri, iris, "test", store, client, tmp_path, as_the_runs_own=False
    )
    assert again.metrics == own.metrics
    assert again.uri != own.uri
    assert load_evaluation(client, own).metrics == own.metrics
    assert client.get_run(run.run_id).data.metrics["test_accuracy"] == own.metrics["accuracy"]

    strange = store_table(
        store, "strange", {"test": frame.assign(label=labels)}, Problem.TABLE_CLASSIFICATION,
        ("setosa", "tulip", "virginica"),
    )  # fmt: skip
    with pytest.raises(InvalidData, match="does not know: tulip"):
        evaluate_and_record(run.run_id, run.model_uri, strange, "test", store, client, tmp_path)


def test_regression_is_evaluated_in_the_labels_units(
    store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.normal(size=300), "b": random.normal(size=300)})
    frame["label"] = 500 + 100 * frame.a + random.normal(size=300)
    parts = {"train": frame[:200], "validation": frame[200:240], "test": frame[240:]}
    ref = store_table(store, "prices", parts, Problem.TABLE_REGRESSION)
    run = train(ref, TrainConfig(algorithm="linear_regression"), store, client, tmp_path / "work")
    found = evaluate_and_record(run.run_id, run.model_uri, ref, "test", store, client, tmp_path)
    assert found.metrics["rmse"] < 3
    assert found.metrics["r2"] > 0.99
    evaluation = load_evaluation(client, found)
    assert len(evaluation.true_values) == len(evaluation.predicted_values) == 60
    assert evaluation.confusion == []
    model = mlflow.pyfunc.load_model(run.model_uri)
    assert model.predict(frame[["a", "b"]]).shape == (300,)
