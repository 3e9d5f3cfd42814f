"""Trainings in a real MLflow."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier

import pytest
from mlflow import MlflowClient

from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged, InvalidData, InvalidSettings, NotFound
from tasks.evaluate.records import evaluate_and_record
from tasks.refs import DatasetRef, Problem
from tasks.train.algorithms import one_call
from tasks.train.algorithms.fit import Metrics
from tasks.train.bundle import Bundle
from tasks.train.config import TrainConfig
from tasks.train.mlflow_model import download_bundle
from tasks.train.tags import MODEL_URI_TAG
from tasks.train.tracking import experiment_id, tracked_run
from tasks.train.train import find_run, train, verify_run
from tests.helpers.models import SPECIES, iris_rows
from tests.helpers.serving_stack import MlflowProcess, wait_until
from tests.helpers.stored_datasets import store_images, store_table

QUICK_CNN = {"width": 4, "epochs": 3}


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
        client = server.client()
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
