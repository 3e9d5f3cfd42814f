from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.data.manifest import Feature, FittedStep
from tasks.data.preparation.preprocessing import Preprocessing
from tasks.errors import Damaged, InvalidRequest, NotFound
from tasks.refs import Problem
from tasks.train.bundle import Bundle
from tests.helpers.models import digit_images, digits_bundle, iris_bundle, iris_rows


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    folder = tmp_path_factory.mktemp("digits") / "bundle"
    return folder, digits_bundle(folder)


@pytest.mark.parametrize("algorithm", ["logistic_regression", "random_forest", "lightgbm", "mlp"])
def test_a_table_bundle_is_the_same_after_loading(algorithm: str, tmp_path: Path) -> None:
    written = iris_bundle(tmp_path / "bundle", algorithm=algorithm)
    loaded = Bundle.load(tmp_path / "bundle")
    frame, labels = iris_rows()
    scores = loaded.predict_table(frame)
    np.testing.assert_array_equal(scores, written.predict_table(frame))
    assert (scores.argmax(axis=1) == labels).mean() > 0.93
    assert loaded.digest == written.digest
    assert loaded.classes == ("setosa", "versicolor", "virginica")
    assert [feature.name for feature in loaded.features] == list(frame.columns)
    # Columns in another order, further columns, and plain rows all mean the same.
    np.testing.assert_array_equal(loaded.predict_table(frame[frame.columns[::-1]].assign(more=1)), scores)
    np.testing.assert_allclose(loaded.predict_table(frame.to_numpy().tolist()), scores, atol=1e-7)


def test_an_image_bundle_takes_images_of_any_size_and_mode(digits: tuple[Path, Bundle]) -> None:
    folder, written = digits
    images, _ = digit_images(20)
    loaded = Bundle.load(folder)
    np.testing.assert_array_equal(loaded.predict_images(images), written.predict_images(images))
    large = [image.convert("RGB").resize((100, 60)) for image in images]
    assert loaded.predict_images(large).shape == (20, 10)
    assert loaded.predict_images([]).shape == (0, 10)


def test_a_copy_has_the_same_digest(digits: tuple[Path, Bundle], tmp_path: Path) -> None:
    folder, bundle = digits
    shutil.copytree(folder, tmp_path / "copy")
    assert bundle.digest == Bundle.load(tmp_path / "copy").digest


def test_same_seed_gives_the_same_digest(tmp_path: Path) -> None:
    first, second = (digits_bundle(tmp_path / name) for name in ("first", "second"))
    assert first.digest == second.digest


def test_refuses_what_is_not_its_own(digits: tuple[Path, Bundle], tmp_path: Path) -> None:
    folder, _ = digits
    with pytest.raises(NotFound, match=r"no model bundle.*bundle\.json"):
        Bundle.load(tmp_path)

    extra = tmp_path / "extra"
    shutil.copytree(folder, extra)
    (extra / "code.py").write_text("raise SystemExit")
    with pytest.raises(Damaged, match=r"holds bundle\.json, code\.py"):
        Bundle.load(extra)

    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    weights = changed / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(Damaged, match="not the one that was written"):
        Bundle.load(changed)

    future = tmp_path / "future"
    shutil.copytree(folder, future)
    description = json.loads((future / "bundle.json").read_text())
    (future / "bundle.json").write_text(json.dumps(description | {"format": "trainyard-bundle/9"}))
    with pytest.raises(Damaged, match=r"format.*trainyard-bundle/1"):
        Bundle.load(future)


def test_a_skops_file_with_a_type_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    from tasks.train import models

    path = tmp_path / "model.skops"
    skops.io.dump(FunctionTransformer(func=subprocess.run), path)
    with pytest.raises(Damaged, match=r"not trusted: .*subprocess"):
        models.load("skops", path, {"outputs": 3})


def test_bad_rows_are_refused_in_words(tmp_path: Path, digits: tuple[Path, Bundle]) -> None:
    bundle = iris_bundle(tmp_path / "bundle")
    frame, _ = iris_rows()
    with pytest.raises(InvalidRequest, match=r"row has 3 values.*row 1.*in this order: sepal_length"):
        bundle.predict_table([[1, 2, 3, 4], [1, 2, 3]])
    with pytest.raises(InvalidRequest, match="The rows lack sepal_width"):
        bundle.predict_table(frame.drop(columns="sepal_width"))
    with pytest.raises(InvalidRequest, match=r"empty or not finite.*sepal_length, row 3"):
        bundle.predict_table(frame.assign(sepal_length=frame.sepal_length.where(frame.index != 3)))
    with pytest.raises(InvalidRequest, match="takes table rows, not images"):
        bundle.predict_images([Image.new("L", (8, 8))])
    with pytest.raises(InvalidRequest, match="takes images, not table rows"):
        digits[1].predict_table([[1.0]])


def test_raw_rows_go_through_the_preprocessing(tmp_path: Path) -> None:
    from tasks.train.algorithms.fit import FitContext, Rows, TrainingData
    from tasks.train.algorithms.linear_regression import LinearRegression, LinearRegressionHyperparameters

    problem = Problem.TABLE_REGRESSION
    preprocessing = Preprocessing(
        problem=problem,
        features=(
            Feature(name="size", type="numeric"),
            Feature(name="colour", type="categorical", categories=("blue", "red")),
        ),
        steps=(FittedStep(method="drop-columns", parameters={"columns": ["colour"]}),),
    )
    size = np.arange(10, dtype=np.float64)[:, None]
    data = TrainingData(problem, Rows(size, 3 * size[:, 0] + 1), None, (), ("size",))
    fit = LinearRegression().fit(data, LinearRegressionHyperparameters(penalty=0), FitContext())
    from tests.helpers.models import TRAINED_ON

    bundle = Bundle.write(
        tmp_path / "bundle", model=fit.model, preprocessing=preprocessing, problem=problem,
        algorithm="linear_regression", hyperparameters={}, seed=0, classes=(), label="price",
        inputs=("size",), dataset=TRAINED_ON,
    )  # fmt: skip
    values = bundle.predict_table([[2, "red"], [4.0, None]])
    np.testing.assert_allclose(values, [7, 13], rtol=1e-5)
    assert bundle.predict_table(pd.DataFrame(columns=["size", "colour"])).shape == (0,)


@pytest.mark.parametrize(
    ("algorithm", "unwanted"),
    [
        ("logistic_regression", ["torch", "lightgbm", "mlflow"]),
        ("lightgbm", ["torch", "mlflow"]),
        ("mlp", ["skops", "lightgbm", "mlflow"]),
    ],
)
def test_opening_a_bundle_imports_only_its_own_library(
    algorithm: str, unwanted: list[str], tmp_path: Path
) -> None:
    iris_bundle(tmp_path / "bundle", algorithm=algorithm)
    script = (
        "import sys; from tasks.train.bundle import Bundle;"
        f"b = Bundle.load({str(tmp_path / 'bundle')!r});"
        "assert b.predict_table([[5.1, 3.5, 1.4, 0.2]]).shape == (1, 3);"
        f"print([m for m in {unwanted!r} if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    answer = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr
