"""What a template fixes of a training, and which trainings it cannot stand for."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.datasets import load_iris

from tasks.data.config import PreprocessConfig
from tasks.data.preparation.preprocess import preprocess
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings
from tasks.refs import DatasetRef, Problem
from tasks.templates.template import described, made_from, trained_by
from tasks.train.config import TrainConfig
from tasks.train.tags import ALGORITHM_TAG, DATASET_REF_TAG, MODEL_URI_TAG, STATUS_TAG
from tasks.trainings.records import RunFacts
from tests.helpers.stored_datasets import store_table


@pytest.fixture(scope="module")
def raw(store: DatasetStore) -> DatasetRef:
    data = load_iris(as_frame=True)
    frame = data.data.set_axis(["a", "b", "c", "d"], axis=1).assign(label=data.target)
    return store_table(
        store, "iris", {"train": frame}, Problem.TABLE_CLASSIFICATION, ("setosa", "versicolor", "virginica")
    )


@pytest.fixture(scope="module")
def prepared(store: DatasetStore, raw: DatasetRef) -> DatasetRef:
    return preprocess(raw, PreprocessConfig(), store)


def _run(ref: DatasetRef, algorithm: str, status: str = "FINISHED", **tags: str) -> RunFacts:
    return RunFacts(
        "0" * 32, "default", "0", "mine", status, "active", "", 0, 1,
        tags={DATASET_REF_TAG: ref.model_dump_json(), ALGORITHM_TAG: algorithm, **tags},
    )  # fmt: skip


def test_own_code_stays_own_code(store: DatasetStore, prepared: DatasetRef) -> None:
    settings: dict[str, Any] = TrainConfig(own_code={"source": "/code/mine"}).model_dump(mode="json")
    made = made_from(_run(prepared, "own_code"), settings, store)
    assert made.training.algorithm == "auto"
    again = TrainConfig.model_validate(made.model_dump(mode="json")["training"])  # what its flow does
    assert again.own_code is not None
    assert trained_by(again.model_dump(mode="json")) == "own code, /code/mine"
    assert "own code, /code/mine" in described(_run(prepared, "own_code"), made, "")


def test_what_auto_chose_is_fixed_and_checked(store: DatasetStore, prepared: DatasetRef) -> None:
    run = _run(prepared, "mlp")
    assert made_from(run, {"hyperparameters": {"epochs": 2}}, store).training.algorithm == "mlp"
    with pytest.raises(InvalidSettings, match="'trees' is unknown"):
        made_from(run, {"hyperparameters": {"trees": 2}}, store)


def test_only_what_ended_with_a_model_becomes_a_template(store: DatasetStore, prepared: DatasetRef) -> None:
    for status, word in (("RUNNING", "running"), ("FAILED", "failed"), ("KILLED", "aborted")):
        for model in ({}, {MODEL_URI_TAG: ""}):
            run = _run(prepared, "mlp", status, **{STATUS_TAG: word}, **model)
            with pytest.raises(InvalidSettings, match=f"mine is {word} and has no model"):
                made_from(run, {}, store)
    stopped = _run(prepared, "mlp", "KILLED", **{STATUS_TAG: "aborted", MODEL_URI_TAG: "models:/m-1"})
    assert made_from(stopped, {}, store).training.algorithm == "mlp"


def test_a_training_on_raw_data_is_refused(store: DatasetStore, raw: DatasetRef) -> None:
    with pytest.raises(InvalidSettings, match=r"as it came in.*always preprocesses.*copy-training"):
        made_from(_run(raw, "lightgbm"), {}, store)
