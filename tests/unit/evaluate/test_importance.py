"""What columns are worth: found again where it is known, and never at the cost of minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.data.read import read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.evaluate.evaluate import evaluate
from tasks.evaluate.importance import LEAST_ROWS, importance
from tasks.refs import Problem
from tasks.train.algorithms.algorithm import FitContext
from tasks.train.built_in import BuiltIn
from tasks.train.config import TrainConfig
from tests.helpers.stored_datasets import store_table


class Known:
    """A bundle that predicts from the column `much`, a little from `little`, and not from `none`."""

    def __init__(self, row_s: float = 0.0) -> None:
        self.row_s = row_s
        self.asked = 0
        self.model = object()
        self.features = [type("F", (), {"name": name})() for name in ("none", "little", "much")]

    def predict_table(self, table: pd.DataFrame) -> np.ndarray:
        self.asked += len(table)
        time.sleep(self.row_s * len(table))
        return (10 * table["much"] + table["little"]).to_numpy(np.float32)


def _table(rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(rows, 3)), columns=["none", "little", "much"])
    return table, (10 * table["much"] + table["little"]).to_numpy()


def _worse(labels: np.ndarray, said: np.ndarray) -> float:
    return float(np.sqrt(np.mean((labels - said) ** 2)))


def test_columns_are_found_worth_what_they_are() -> None:
    table, labels = _table(500)
    bundle: Any = Known()
    found = importance(bundle, table, labels, "rmse", _worse, budget_s=5)
    assert found is not None
    assert [column.name for column in found.permutation] == ["much", "little", "none"]
    much, little, none = found.permutation
    assert much.importance == pytest.approx(10 * little.importance, rel=0.2)
    assert none.importance == pytest.approx(0, abs=1e-6)
    assert much.deviation > 0
    again = importance(bundle, table, labels, "rmse", _worse, budget_s=5)
    assert again == found, "not the same for the same rows"


def test_a_slow_model_is_asked_less() -> None:
    table, labels = _table(2000)
    slow: Any = Known(row_s=0.0005)
    found = importance(slow, table, labels, "rmse", _worse, budget_s=0.3)
    assert found is not None
    assert found.repeats == 1
    assert LEAST_ROWS <= found.rows < 400
    slower: Any = Known(row_s=0.01)
    assert importance(slower, table[:200], labels[:200], "rmse", _worse, budget_s=0.1) is None


@pytest.mark.parametrize("algorithm", ["lightgbm", "random_forest", "linear_regression", "mlp"])
def test_models_tell_of_their_own_columns(algorithm: str, tmp_path: Path) -> None:
    table, labels = _table(200)
    store = DatasetStore(str(tmp_path / "store"))
    frame = table.assign(label=labels)
    frames = {"train": frame[:120], "validation": frame[120:150], "test": frame[150:]}
    ref = store_table(store, "known", frames, Problem.TABLE_REGRESSION)
    config = TrainConfig(algorithm=algorithm, hyperparameters={"epochs": 2} if algorithm == "mlp" else {})
    trainer = BuiltIn.of(ref, config, store)
    fit = trainer.algorithm.fit(trainer.data, trainer.settings, FitContext(seed=0))
    bundle = trainer.bundle(tmp_path / "bundle", fit, trainer.settings)
    raw = read_raw_rows(store, ref, "test")
    found, _ = evaluate(
        bundle, raw, ref, "test", (), None, [("train", 120), ("validation", 30)],
        lambda split, rows: read_raw_rows(store, ref, split, rows, spread=True),
    )  # fmt: skip
    assert found.importance is not None
    assert found.importance.permutation[0].name == "much"
    assert [(other.split, other.rows, other.of) for other in found.other_splits] == [
        ("train", 120, 120),
        ("validation", 30, 30),
    ]
    assert set(found.other_splits[0].metrics) == set(found.metrics)
    if algorithm == "mlp":
        assert found.importance.native == []
    else:
        assert found.importance.native[0].name == "much"
        assert sum(column.importance for column in found.importance.native) == pytest.approx(1)
