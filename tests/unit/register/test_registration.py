"""From a training to the champion, on a real MLflow server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from tasks.data.read import read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotFound
from tasks.evaluate.examples import EXAMPLES_TAG, read_sendable, sendable_rows
from tasks.evaluate.records import evaluate_and_record
from tasks.refs import DatasetRef, EvaluationRef, ModelVersionRef, Problem, RunRef
from tasks.register.config import GateConfig, RegisterConfig
from tasks.register.gate import Decision
from tasks.register.promote import DECISION_TAG, NothingToServeError, hold_against_champion, promote
from tasks.register.register import champion_of, find_version, register
from tests.helpers.models import SPECIES, iris_rows
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.stored_datasets import store_table
from tests.helpers.trained import iris_dataset, train_and_evaluate


@dataclass
class Registry:
    """A store, an MLflow server and trainings of iris."""

    store: DatasetStore
    client: MlflowClient
    folder: Path
    dataset: DatasetRef
    good: tuple[RunRef, EvaluationRef]
    poor: tuple[RunRef, EvaluationRef]

    def register(self, which: tuple[RunRef, EvaluationRef], model: str) -> ModelVersionRef:
        return register(*which, RegisterConfig(model=model), self.store, self.client, self.folder / "run")

    def gate(self, version: ModelVersionRef, evaluation: EvaluationRef, **settings: float) -> Decision:
        def measure(champion: ModelVersionRef, dataset: DatasetRef, split: str) -> EvaluationRef:
            self.measured.append(champion.version)
            models = self.folder / "models"
            uri = champion.model_uri
            return evaluate_and_record(champion.run_id, uri, dataset, split, self.store, self.client, models)

        self.measured: list[int] = []
        config = GateConfig(**settings)
        return hold_against_champion(version, evaluation, self.dataset, config, self.client, measure)

    def promote(self, version: ModelVersionRef, decision: Decision) -> tuple[ModelVersionRef, bool]:
        return promote(version, decision, self.client, self.folder / "run")


@pytest.fixture(scope="module")
def registry(mlflow_process: MlflowProcess, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("registry")
    store = DatasetStore(str(folder / "store"))
    client = mlflow_process.client()
    dataset = iris_dataset(store)
    good = train_and_evaluate(store, client, folder, dataset, "logistic_regression")
    settings = {"inverse_penalty": 0.0001}
    poor = train_and_evaluate(store, client, folder, dataset, "logistic_regression", **settings)
    assert good[1].metrics["accuracy"] > poor[1].metrics["accuracy"]
    return Registry(store, client, folder, dataset, good, poor)


def test_a_run_becomes_one_version_however_often_it_is_registered(registry: Registry) -> None:
    run, evaluation = registry.good
    with ThreadPoolExecutor(3) as pool:
        versions = list(pool.map(lambda _: registry.register(registry.good, "once"), range(3)))
    assert versions == [versions[0]] * 3
    assert (versions[0].version, versions[0].digest, versions[0].model_uri) == (1, run.digest, run.model_uri)
    found = registry.client.get_model_version("once", "1")
    assert found.tags["dataset"] == str(registry.dataset)
    assert float(found.tags["test_accuracy"]) == pytest.approx(evaluation.metrics["accuracy"], abs=1e-5)
    assert found.tags[EXAMPLES_TAG].startswith(f"runs:/{run.run_id}/")
    assert "logistic_regression trained on" in found.description
    assert registry.client.get_run(run.run_id).data.tags["trainyard.status"] == "published"


def test_the_datasets_name_is_the_models_by_default(registry: Registry) -> None:
    config = RegisterConfig(description="by hand", tags={"team": "flowers"})
    version = register(*registry.good, config, registry.store, registry.client, registry.folder / "run")
    assert version.name == registry.dataset.name
    found = registry.client.get_model_version(version.name, str(version.version))
    assert (found.description, found.tags["team"]) == ("by hand", "flowers")


def test_an_evaluation_of_another_run_is_refused(registry: Registry) -> None:
    with pytest.raises(InvalidSettings, match="of another run"):
        registry.register((registry.good[0], registry.poor[1]), "mixed")


def test_a_run_that_failed_or_is_gone_is_refused(registry: Registry) -> None:
    run, evaluation = registry.good
    failed = registry.client.create_run("0").info.run_id
    registry.client.set_terminated(failed, "FAILED")
    for run_id, error in ((failed, InvalidSettings), ("0" * 32, NotFound)):
        pair = (run.model_copy(update={"run_id": run_id}), evaluation.model_copy(update={"run_id": run_id}))
        with pytest.raises(error):
            registry.register(pair, "failed")
    assert champion_of(registry.client, "failed") is None


def test_versions_are_found_by_number_and_alias(registry: Registry) -> None:
    version = registry.register(registry.good, "found")
    registry.client.set_registered_model_alias("found", "candidate", "1")
    assert find_version(registry.client, "found", 1) == version
    assert find_version(registry.client, "found", "1") == version
    assert find_version(registry.client, "found", "candidate") == version
    with pytest.raises(NotFound, match=r"candidate \(v1\)"):
        find_version(registry.client, "found", "champion")
    with pytest.raises(NotFound, match="no version 9"):
        find_version(registry.client, "found", 9)
    with pytest.raises(NotFound, match="no registered model 'unheard'"):
        find_version(registry.client, "unheard", "champion")


def test_worse_equal_and_better_models_in_turn(registry: Registry) -> None:
    poor = registry.register(registry.poor, "turns")
    first = registry.gate(poor, registry.poor[1])
    assert first.reasons == ["There is no champion yet."]
    assert registry.promote(poor, first) == (poor, True)

    good = registry.register(registry.good, "turns")
    better = registry.gate(good, registry.good[1])
    assert better.promote
    assert registry.measured == []  # the champion was measured on these very rows at its registration
    assert registry.promote(good, better) == (good, True)
    assert registry.promote(good, better) == (good, False)

    again = registry.gate(good, registry.good[1], min_gain=0.5)
    assert again.reasons == ["v2 is already the champion."]
    worse = registry.gate(poor, registry.poor[1])
    assert not worse.promote
    assert registry.promote(poor, worse) == (good, False)
    assert champion_of(registry.client, "turns") == good
    stored = registry.client.get_model_version("turns", "1").tags[DECISION_TAG]
    assert Decision.model_validate_json(stored) == worse


def test_a_champion_of_other_rows_is_measured_on_the_candidates(registry: Registry) -> None:
    other = iris_dataset(registry.store, "iris-older", rows=slice(0, 148))
    old = train_and_evaluate(registry.store, registry.client, registry.folder, other, "logistic_regression")
    champion = registry.register(old, "moved")
    registry.client.set_registered_model_alias("moved", "champion", "1")
    candidate = registry.register(registry.good, "moved")
    decision = registry.gate(candidate, registry.good[1])
    assert registry.measured == [champion.version]
    assert decision.champion is not None
    assert decision.champion.dataset == registry.dataset.digest


def test_refused_without_a_champion_nothing_can_be_served(registry: Registry) -> None:
    version = registry.register(registry.poor, "hopeless")
    decision = registry.gate(version, registry.poor[1], floor=0.999)
    with pytest.raises(NothingToServeError, match=r"at least 0\.9990"):
        registry.promote(version, decision)
    assert champion_of(registry.client, "hopeless") is None


def test_a_champion_that_changed_meanwhile_stops_the_promotion(registry: Registry) -> None:
    poor, good = registry.register(registry.poor, "raced"), registry.register(registry.good, "raced")
    decision = registry.gate(good, registry.good[1])
    registry.client.set_registered_model_alias("raced", "champion", str(poor.version))
    with pytest.raises(InvalidSettings, match="changed from none to v1"):
        registry.promote(good, decision)
    assert champion_of(registry.client, "raced") == poor


def test_no_more_rows_are_read_than_examples_need(tmp_path: Path) -> None:
    store = DatasetStore(str(tmp_path))
    whole = iris_dataset(store, "whole")
    assert read_sendable(store, whole, "test", 4).ids == read_raw_rows(store, whole, "test").ids[:4]
    frame, labels = iris_rows()
    frame = frame.assign(label=labels)
    frame.iloc[1:3, 0] = np.nan
    parts = {"train": frame[100:], "test": frame[:100]}
    ref = store_table(store, "gaps", parts, Problem.TABLE_CLASSIFICATION, SPECIES)
    raw = read_sendable(store, ref, "test", 4)
    assert len(raw.ids) == 100
    assert sendable_rows(raw, 4) == [0, 3, 4, 5]
