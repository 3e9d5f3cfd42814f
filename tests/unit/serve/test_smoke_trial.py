"""Trained, registered, promoted, served, tried: the answers over HTTP are the evaluation's."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged, Unavailable
from tasks.evaluate.examples import read_sendable
from tasks.evaluate.records import load_evaluation, load_predictions
from tasks.refs import DatasetRef, EndpointRef, EvaluationRef
from tasks.register.config import GateConfig, RegisterConfig
from tasks.register.promote import hold_against_champion, promote
from tasks.register.register import register
from tasks.serve import endpoints, samples
from tasks.serve.config import ServeConfig
from tasks.serve.record import EndpointPlace, EndpointRecord
from tasks.serve.smoke import ROWS, SmokeResult, try_endpoint
from tests.helpers.stored_datasets import store_images
from tests.helpers.trained import iris_dataset, train_and_evaluate


@dataclass(frozen=True)
class Live:
    """A served model with what is needed to try it."""

    record: EndpointRecord
    endpoint: EndpointRef
    token: str
    dataset: DatasetRef
    evaluation: EvaluationRef
    store: DatasetStore
    client: MlflowClient

    def try_it(self, predictions: Any = None) -> SmokeResult:
        return try_endpoint(
            self.endpoint,
            self.token,
            read_sendable(self.store, self.dataset, "test", ROWS),
            load_predictions(self.client, self.evaluation) if predictions is None else predictions,
            self.dataset.problem,
            load_evaluation(self.client, self.evaluation).classes,
        )


def bring_live(stack: Any, folder: Path, dataset: DatasetRef, algorithm: str, **settings: Any) -> Live:
    client, store = stack.mlflow.client(), DatasetStore(str(folder))
    run, evaluation = train_and_evaluate(store, client, stack.home / "work", dataset, algorithm, **settings)
    lock_folder = stack.home / "run"
    version = register(run, evaluation, RegisterConfig(), store, client, lock_folder)

    def never(*_: Any) -> EvaluationRef:
        raise AssertionError("there is no champion to measure")

    decision = hold_against_champion(version, evaluation, dataset, GateConfig(), client, never)
    champion, moved = promote(version, decision, client, lock_folder)
    assert moved
    record, endpoint = endpoints.serve(champion.name, ServeConfig(ready_timeout_s=300), stack.host)
    assert endpoint.version == champion.version
    assert (stack.home / "endpoints" / record.name / "versions" / "1" / "examples.json").exists()
    return Live(
        record, endpoint, Path(endpoint.token_file).read_text().strip(), dataset, evaluation, store, client
    )


def test_a_table_model_answers_as_it_was_evaluated(stack: Any, tmp_path: Path) -> None:
    dataset = iris_dataset(DatasetStore(str(tmp_path)), "tried-iris")
    live = bring_live(stack, tmp_path, dataset, "random_forest", trees=20)
    result = live.try_it()
    assert (result.rows, result.forms, result.version) == (16, ("json",), "1")
    assert result.largest_difference < 1e-6

    swapped = load_predictions(live.client, live.evaluation)
    swapped["scores"] = list(swapped["scores"][::-1])
    with pytest.raises(Damaged, match="differs from the evaluation's"):
        live.try_it(predictions=swapped)
    endpoints.delete(stack.home, live.record.name)
    with pytest.raises(Unavailable, match="does not answer"):
        live.try_it()


def test_an_image_model_answers_in_both_forms_as_it_was_evaluated(stack: Any, tmp_path: Path) -> None:
    rows = {
        split: [(f"{split}/{number}.png", number % 3) for number in range(count)]
        for split, count in (("train", 60), ("validation", 12), ("test", 20))
    }
    dataset = store_images(DatasetStore(str(tmp_path)), "tried-greys", rows, ("a", "b", "c"), side_px=16)
    live = bring_live(stack, tmp_path, dataset, "six_layer_cnn", epochs=1, width=4)
    result = live.try_it()
    assert (result.rows, result.forms) == (16, ("json", "multipart"))
    assert result.largest_difference < 1e-4
    page = samples.page(live.record, 1, samples.example_of(EndpointPlace(stack.home, live.record.name), 1))
    assert "sample.png" in page
    assert live.endpoint.curl in page
    asked = subprocess.run(["bash", "-c", live.endpoint.curl], capture_output=True, text=True, check=True)
    assert asked.stdout in ("[0]", "[1]", "[2]")
    assert live.token not in page
    endpoints.delete(stack.home, live.record.name)
