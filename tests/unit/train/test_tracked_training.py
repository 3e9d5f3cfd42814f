"""Trainings in a real MLflow."""

from __future__ import annotations

import base64
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from tasks.data.read import read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged, InvalidData, InvalidSettings, NotFound
from tasks.evaluate.records import evaluate_and_record, load_evaluation, load_predictions
from tasks.refs import DatasetRef, Problem
from tasks.train.algorithms import one_call
from tasks.train.algorithms.algorithm import Metrics
from tasks.train.bundle import Bundle
from tasks.train.config import TrainConfig
from tasks.train.mlflow_model import download_bundle
from tasks.train.tags import MODEL_URI_TAG
from tasks.train.tracking import experiment_id, tracked_run
from tasks.train.train import find_run, train, verify_run
from tests.helpers.models import SPECIES, iris_rows
from tests.helpers.serving_stack import MlflowProcess, wait_until
from tests.helpers.stored_datasets import store_images, store_table
from tests.helpers.trained import iris_dataset

ROOT = Path(__file__).resolve().parents[3]
QUICK_CNN = {"width": 4, "epochs": 3}


@pytest.fixture(scope="module")
def client(mlflow_process: MlflowProcess) -> MlflowClient:
    return MlflowClient(mlflow_process.uri)


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


def test_a_training_tells_all_of_itself(
    iris: DatasetRef, store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    heard: list[tuple[int, int, Metrics]] = []
    config = TrainConfig(
        algorithm="mlp", hyperparameters={"epochs": 5}, seed=2, experiment="flowers", tags={"team": "botany"}
    )
    run = train(
        iris, config, store, client, tmp_path, lambda *told: heard.append(told),
        tags={"trainyard.flow_run_id": "f-1"},
    )  # fmt: skip

    assert [epoch for epoch, _, _ in heard] == [1, 2, 3, 4, 5]
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    model = client.get_logged_model(run.model_uri.removeprefix("models:/"))
    assert (model.experiment_id, model.source_run_id) == (found.info.experiment_id, run.run_id)
    assert str(model.status) == "READY"
    assert (
        found.data.tags
        | {
            "trainyard.status": "succeeded",
            "trainyard.dataset": str(iris),
            "trainyard.dataset_digest": iris.digest,
            "trainyard.flow_run_id": "f-1",
            "team": "botany",
        }
        == found.data.tags
    )
    assert found.data.params["epochs"] == "5"
    assert found.data.params["seed"] == "2"
    [used] = found.inputs.dataset_inputs
    assert used.dataset.name == str(iris)
    curve = client.get_metric_history(run.run_id, "validation_loss")
    assert [point.step for point in curve] == [1, 2, 3, 4, 5]
    assert found.data.metrics["best_validation_loss"] == min(point.value for point in curve)
    assert found.data.metrics["parameters"] > 0
    assert found.data.metrics["fit_time_s"] > 0

    assert find_run(client, run.run_id) == run
    verify_run(client, run)
    with pytest.raises(Damaged, match="another model"):
        verify_run(client, run.model_copy(update={"digest": "0" * 64}))
    assert Bundle.load(download_bundle(client, run.model_uri, tmp_path / "models")).digest == run.digest
    with pytest.raises(NotFound, match="no run"):
        find_run(client, "0" * 32)


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


def test_an_error_closes_the_run_as_failed_and_the_retry_takes_it_up(
    iris: DatasetRef, store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    config = TrainConfig(algorithm="mlp", hyperparameters={"epochs": 4}, experiment="interrupted")

    def broken(epoch: int, epochs: int, metrics: Metrics) -> None:
        if epoch == 2:
            raise ConnectionError("the screen went away")

    with pytest.raises(ConnectionError):
        train(iris, config, store, client, tmp_path, broken)
    experiment = client.get_experiment_by_name("interrupted")
    [left] = client.search_runs([experiment.experiment_id])
    assert (left.info.status, left.data.tags["trainyard.status"]) == ("FAILED", "failed")

    heard: list[int] = []
    run = train(iris, config, store, client, tmp_path, lambda epoch, *_: heard.append(epoch))
    assert heard == [3, 4]
    assert run.run_id == left.info.run_id
    assert client.get_run(run.run_id).info.status == "FINISHED"
    steps = [point.step for point in client.get_metric_history(run.run_id, "train_loss")]
    assert sorted(steps) == [1, 2, 3, 4]


def test_being_stopped_closes_the_run_as_aborted(
    iris: DatasetRef, store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    config = TrainConfig(algorithm="mlp", hyperparameters={"epochs": 4}, experiment="stopped")

    def interrupt(epoch: int, epochs: int, metrics: Metrics) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(iris, config, store, client, tmp_path / "killed", interrupt)
    experiment = client.get_experiment_by_name("stopped")
    [left] = client.search_runs([experiment.experiment_id])
    assert (left.info.status, left.data.tags["trainyard.status"]) == ("KILLED", "aborted")

    run = train(iris, config, store, client, tmp_path / "asked", should_stop=lambda: True)
    found = client.get_run(run.run_id)
    assert (found.info.status, found.data.tags["trainyard.status"]) == ("KILLED", "aborted")
    assert find_run(client, run.run_id).model_uri == run.model_uri


def test_stopped_before_there_is_a_model_the_run_is_aborted(
    iris: DatasetRef,
    store: DatasetStore,
    client: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(one_call, "LONG_OPERATIONS", 0)
    config = TrainConfig(algorithm="logistic_regression", experiment="stopped early")
    with pytest.raises(one_call.FitStopped):
        train(iris, config, store, client, tmp_path, should_stop=lambda: True)
    experiment = client.get_experiment_by_name("stopped early")
    [left] = client.search_runs([experiment.experiment_id])
    assert (left.info.status, left.data.tags["trainyard.status"]) == ("KILLED", "aborted")
    assert MODEL_URI_TAG not in left.data.tags


def test_data_that_teaches_nothing_leaves_no_run(
    store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    frame, _ = iris_rows()
    same = store_table(store, "same", {"train": frame.assign(label=0)}, Problem.TABLE_CLASSIFICATION, SPECIES)
    with pytest.raises(InvalidData, match=r"nothing to learn: 150 training rows.*1 distinct label"):
        train(same, TrainConfig(experiment="nothing"), store, client, tmp_path)
    assert client.get_experiment_by_name("nothing") is None


def test_the_same_seed_gives_the_same_metrics_and_bundle(
    pictures: DatasetRef, store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    config = TrainConfig(hyperparameters=QUICK_CNN, seed=11)
    runs = [train(pictures, config, store, client, tmp_path / name) for name in ("one", "two")]
    assert runs[0].run_id != runs[1].run_id
    assert runs[0].digest == runs[1].digest
    found = [
        evaluate_and_record(run.run_id, run.model_uri, pictures, "test", store, client, tmp_path)
        for run in runs
    ]
    assert found[0].metrics == found[1].metrics


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


def test_many_runs_may_be_the_first_to_name_a_dataset(client: MlflowClient, iris: DatasetRef) -> None:
    def begin(name: str, together: Barrier) -> str:
        with tracked_run(client, "crowd", name=name, tags={}) as run:
            together.wait(timeout=60)
            run.input(iris.model_copy(update={"name": name}), {"train": 1})
        return run.run_id

    experiment_id(client, "crowd")
    with ThreadPoolExecutor(6) as pool:
        for number in range(5):
            together = Barrier(6)
            runs = [pool.submit(begin, f"iris{number}", together) for _ in range(6)]
            for run in runs:
                assert len(client.get_run(run.result()).inputs.dataset_inputs) == 1


def test_the_host_is_charted_while_a_run_lasts_and_goes_on_after_an_interruption(
    client: MlflowClient,
) -> None:
    def charted() -> list[int]:
        history = client.get_metric_history(run.run_id, "system/cpu_utilization_percentage")
        return [metric.step for metric in history]

    with suppress(KeyboardInterrupt), tracked_run(client, "charts", name="host", tags={}) as run:
        wait_until(charted)
        raise KeyboardInterrupt
    names = set(client.get_run(run.run_id).data.metrics)
    assert {f"system/{name}" for name in ("process_memory_usage_megabytes", "disk_usage_percentage")} < names
    assert "system metrics" not in {thread.name for thread in threading.enumerate()}

    with tracked_run(client, "charts", name="host", tags={}, resume=run.run_id):
        wait_until(lambda: len(charted()) > 2)
    steps = charted()
    assert steps == list(range(len(steps))), "the second attempt wrote over the first"

    with tracked_run(client, "charts", name="trial", tags={}, parent=run.run_id) as trial:
        assert "system metrics" not in {thread.name for thread in threading.enumerate()}
    assert not client.get_run(trial.run_id).data.metrics


@pytest.mark.faults
def test_a_fit_goes_on_without_mlflow_and_none_of_its_metrics_is_lost(tmp_path: Path) -> None:
    server = MlflowProcess(tmp_path)
    server.start()
    try:
        client = MlflowClient(server.uri)
        with tracked_run(client, "lost", name="lost", tags={}) as run:
            run.stream(1, {"train_loss": 1.0})
            wait_until(lambda: client.get_run(run.run_id).data.metrics)
            server.stop()
            for step in range(2, 200):  # whoever waits for the server here waits in vain
                run.stream(step, {"train_loss": 1 / step})
            server.start()
        history = client.get_metric_history(run.run_id, "train_loss")
        assert [metric.step for metric in history] == list(range(1, 200))
    finally:
        server.stop()


def test_settings_that_do_not_go_with_the_rows_are_refused_before_a_run_exists(
    pictures: DatasetRef, store: DatasetStore, client: MlflowClient, tmp_path: Path
) -> None:
    config = TrainConfig(
        algorithm="six_layer_cnn", hyperparameters={"batch_size_per_rank": 1000}, experiment="never-made"
    )
    with pytest.raises(InvalidSettings, match="1000 is more than the 24 training rows"):
        train(pictures, config, store, client, tmp_path / "work")
    small = store_images(
        store, "tiny", {"train": [("a", 0), ("b", 1)], "validation": [("c", 0)]}, ("dark", "light"), side_px=4
    )
    with pytest.raises(InvalidSettings, match="4 x 4 pixels are too small"):
        train(small, config.model_copy(update={"hyperparameters": {}}), store, client, tmp_path / "work")
    assert client.get_experiment_by_name("never-made") is None
    assert not (tmp_path / "work").exists()
