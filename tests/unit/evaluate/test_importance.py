"""What columns are worth: found again where it is known, and never at the cost of minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.data.read import preprocessing_of, read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.evaluate.evaluate import evaluate
from tasks.evaluate.importance import LEAST_ROWS, importance
from tasks.refs import Problem
from tasks.train import models
from tasks.train.algorithms.fit import FitContext
from tasks.train.built_in import BuiltIn
from tasks.train.bundle import Bundle, TrainedOn
from tasks.train.config import TrainConfig
from tasks.train.own_code.adopting import Adopted, Trial, adopt
from tasks.train.own_code.config import ImageInput
from tasks.train.own_code.saved_model import find_saved
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


MADE: dict[str, tuple[str, dict[str, Any], str]] = {
    "lightgbm": ("lightgbm", {}, "lightgbm"),
    "random_forest": ("random_forest", {}, "skops"),
    "linear": ("linear_regression", {}, "skops"),
    "lasso": ("lasso", {}, "skops"),
    "elastic net": ("elastic_net", {}, "skops"),
    "linear support vectors": ("support_vector_machine", {"kernel": "linear"}, "skops"),
    "support vectors": ("support_vector_machine", {}, "skops"),
    "mlp": ("mlp", {"epochs": 2}, "safetensors"),
}
"""Algorithm of the catalogue, its settings, and the format of the model that it gives."""
OWN = ("own-lightgbm", "own-skops", "onnx")
SILENT = ("mlp", "support vectors", "onnx")
"""Those that have no word for what a column is worth."""


def test_every_format_that_a_table_can_have_is_here() -> None:
    by_sweeps_alone = "ensemble"  # it has no word for it either
    here = {*OWN, *(made for _, _, made in MADE.values()), by_sweeps_alone}
    assert here == set(models.FORMATS) - {"transformers"}


def _own_model(kind: str, folder: Path, frame: pd.DataFrame) -> Adopted:
    """What own code of this kind may save."""
    import lightgbm
    import skops.io
    from onnx import TensorProto, helper, save
    from sklearn.linear_model import Ridge

    folder.mkdir()
    table, labels = frame.drop(columns="label"), frame["label"].to_numpy()
    if kind == "own-lightgbm":
        rows = lightgbm.Dataset(table, labels)
        lightgbm.train({"verbosity": -1, "num_threads": 1}, rows, 20).save_model(folder / "model.txt")
    elif kind == "own-skops":
        skops.io.dump(Ridge().fit(table, labels), folder / "model.skops")
    else:
        weights = helper.make_tensor("w", TensorProto.FLOAT, [3, 1], [0.0, 1.0, 10.0])
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
        gives = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        graph = helper.make_graph([node], "g", [given], [gives], [weights])
        opset = helper.make_opsetid("", 17)
        save(helper.make_model(graph, opset_imports=[opset], ir_version=8), folder / "model.onnx")
    trial = Trial(Problem.TABLE_REGRESSION, (), ((),), None, table, labels, ImageInput())
    return adopt(find_saved(folder), trial)


@pytest.mark.parametrize("name", [*MADE, *OWN])
def test_models_of_every_format_tell_of_their_own_columns(name: str, tmp_path: Path) -> None:
    table, labels = _table(200)
    store = DatasetStore(str(tmp_path / "store"))
    frame = table.assign(label=labels)
    frames = {"train": frame[:120], "validation": frame[120:150], "test": frame[150:]}
    ref = store_table(store, "known", frames, Problem.TABLE_REGRESSION)
    if name in OWN:
        adopted = _own_model(name, tmp_path / "saved", frames["train"])
        Bundle.write(
            tmp_path / "bundle", model=adopted.model, preprocessing=preprocessing_of(store, ref),
            problem=ref.problem, algorithm="own_code", hyperparameters={}, seed=0, classes=(), label="label",
            inputs=adopted.inputs,
            dataset=TrainedOn(name=ref.name, version=ref.version, digest=ref.digest),
        )  # fmt: skip
        bundle = Bundle.load(tmp_path / "bundle")
        assert bundle.model.format == name
    else:
        algorithm, hyperparameters, format_name = MADE[name]
        config = TrainConfig(algorithm=algorithm, hyperparameters=hyperparameters)
        trainer = BuiltIn.of(ref, config, store)
        fit = trainer.algorithm.fit(trainer.data, trainer.settings, FitContext(seed=0))
        bundle = trainer.bundle(tmp_path / "bundle", fit, trainer.settings)
        assert bundle.model.format == format_name
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
    if name in SILENT:
        assert found.importance.native == []
    else:
        assert found.importance.native[0].name == "much"
        assert sum(column.importance for column in found.importance.native) == pytest.approx(1)
