"""What every preprocessing method must do, run against each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from tasks.data import methods
from tasks.data.config import StepConfig
from tasks.data.images import plain_png_header, png
from tasks.data.manifest import Feature, FittedStep
from tasks.data.methods import METHODS, ImageMethod, PreprocessingMethod, TableMethod
from tasks.data.preprocessing import Preprocessing
from tasks.refs import Problem

IMAGE_METHODS = [name for name, method in METHODS.items() if isinstance(method, ImageMethod)]
TABLE_METHODS = [name for name, method in METHODS.items() if isinstance(method, TableMethod)]
NOT_DEFAULT: dict[str, list[dict[str, Any]]] = {
    "colour-mode": [{"mode": "grey"}, {"mode": "rgb"}],
    "resize": [{"width_px": 5, "height_px": 9, "filter": "lanczos"}],
    "centre-crop": [{"width_px": 5, "height_px": 40}],
    "flip": [{"direction": "vertical"}],
    "rotate": [{"angle_degrees": 30, "expand": True}],
    "blur": [{"radius_px": 2.5}],
    "brightness": [{"factor": 0.5}],
    "impute": [
        {"numeric": "mean"},
        {"numeric": "most-frequent", "categorical": "constant"},
        {"numeric": "constant", "numeric_constant": -1},
    ],
    "scale": [{"to": "min-max"}, {"to": "robust"}],
    "encode": [{"to": "ordinal"}],
    "drop-columns": [{"columns": ["town"]}],
}
CASES = [(name, given) for name in METHODS for given in [{}, *NOT_DEFAULT.get(name, [])]]
FEATURES = (
    Feature(name="age", type="numeric"),
    Feature(name="town", type="categorical"),
    Feature(name="income", type="numeric"),
)


def table(rows: int = 40) -> pd.DataFrame:
    random = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "age": random.normal(40, 9, rows),
            "town": pd.Series(random.choice(["Bern", "Graz", "Ulm"], rows), dtype="str"),
            "income": random.normal(3000, 400, rows),
        }
    )
    frame.loc[3, "age"] = np.nan
    frame.loc[5, "town"] = np.nan
    return frame


def pictures(mode: str, count: int = 6) -> list[Image.Image]:
    random = np.random.default_rng(4)
    shape = (10, 12) if mode == "L" else (10, 12, 3)
    return [Image.fromarray(random.integers(0, 256, shape, np.uint8)) for _ in range(count)]


def fitted(name: str, given: dict[str, Any], batches: list[Any]) -> FittedStep:
    method = METHODS[name]
    parameters = method.Parameters.model_validate(given)
    state = {}
    if method.learns:
        state = method.learn([method.summarise(batch, parameters) for batch in batches], parameters)
    step = StepConfig(method=PreprocessingMethod(name), parameters=given)
    return FittedStep(method=name, parameters=step.parameters, state=state)


def test_every_method_is_in_the_form_with_its_parameters() -> None:
    modules = {path.stem.replace("_", "-") for path in Path(methods.__file__).parent.glob("[a-z]*.py")}
    assert set(METHODS) == modules - {"method"}, "a file that is not in the list, or a name beside its file"
    form = StepConfig.model_json_schema()
    assert sorted(form["$defs"]["PreprocessingMethod"]["enum"]) == sorted(METHODS)
    help_text = form["properties"]["parameters"]["description"]
    for name, method in METHODS.items():
        shown = ", ".join(method.Parameters.model_fields) or "none"
        assert f"{name}: {shown}" in help_text


@pytest.mark.parametrize("name", METHODS)
def test_parameters_have_defaults_bounds_and_a_sentence_each(name: str) -> None:
    parameters = METHODS[name].Parameters
    parameters()
    for field in parameters.model_fields.values():
        assert field.description
        assert field.description.endswith(".")


@pytest.mark.parametrize("name", METHODS)
def test_unknown_and_wrong_parameters_are_refused_in_words(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name}: nonsense"):
        StepConfig(method=PreprocessingMethod(name), parameters={"nonsense": 1})
    for field in METHODS[name].Parameters.model_fields:
        with pytest.raises(ValidationError, match=f"{name}: {field}"):
            StepConfig(method=PreprocessingMethod(name), parameters={field: {"not": "this"}})


@pytest.mark.parametrize(("name", "given"), [case for case in CASES if case[0] in TABLE_METHODS])
class TestTableMethods:
    def test_state_is_json_and_does_not_depend_on_the_batches(self, name: str, given: dict[str, Any]) -> None:
        frame = table()
        whole = fitted(name, given, [frame])
        assert FittedStep.model_validate(json.loads(whole.model_dump_json())) == whole
        assert fitted(name, given, [frame[30:], frame[:7], frame[7:30]]) == whole

    def test_one_row_is_treated_as_in_a_batch(self, name: str, given: dict[str, Any]) -> None:
        frame = table()
        steps = (fitted(name, given, [frame]),)
        saved = Preprocessing(problem=Problem.TABLE_CLASSIFICATION, features=FEATURES, steps=steps).to_json()
        preprocessing = Preprocessing.from_json(saved)
        before = frame.copy()
        batch = preprocessing.table(frame)
        pd.testing.assert_frame_equal(frame, before)
        assert batch.index.equals(frame.index)
        for row in range(len(frame)):
            pd.testing.assert_frame_equal(preprocessing.table(frame.iloc[[row]]), batch.iloc[[row]])

    def test_an_empty_table_keeps_the_columns(self, name: str, given: dict[str, Any]) -> None:
        frame = table()
        step = fitted(name, given, [frame])
        preprocessing = Preprocessing(problem=Problem.TABLE_REGRESSION, features=FEATURES, steps=(step,))
        empty = preprocessing.table(frame.iloc[:0])
        assert list(empty.columns) == list(preprocessing.table(frame).columns)
        assert list(empty.dtypes) == list(preprocessing.table(frame).dtypes)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(("name", "given"), [case for case in CASES if case[0] in IMAGE_METHODS])
class TestImageMethods:
    def test_the_same_image_comes_out_alone_and_in_a_batch(
        self, name: str, given: dict[str, Any], mode: str
    ) -> None:
        images = pictures(mode)
        steps = (fitted(name, given, [images[:2], images[2:]]),)
        assert steps == (fitted(name, given, [images]),)
        preprocessing = Preprocessing.from_json(
            Preprocessing(
                problem=Problem.IMAGE_CLASSIFICATION,
                features=(Feature(name="image", type="image"),),
                steps=steps,
            ).to_json()
        )
        before = [image.tobytes() for image in images]
        batch = preprocessing.images(images)
        assert [image.tobytes() for image in images] == before
        for image, expected in zip(images, batch, strict=True):
            (alone,) = preprocessing.images([image])
            assert (alone.mode, alone.size, alone.tobytes()) == (
                expected.mode,
                expected.size,
                expected.tobytes(),
            )
            assert alone.mode in ("L", "RGB")

    def test_what_it_says_it_keeps_comes_out_unchanged(
        self, name: str, given: dict[str, Any], mode: str
    ) -> None:
        method = METHODS[name]
        assert isinstance(method, ImageMethod)
        step = fitted(name, given, [pictures(mode)])
        parameters = method.Parameters.model_validate(given)
        size = (step.parameters.get("width_px", 12), step.parameters.get("height_px", 10))
        for image in [*pictures(mode), *(one.resize(size) for one in pictures(mode))]:
            header = plain_png_header(png(image))
            assert header is not None
            if method.keeps(header, parameters, step.state):
                result = method.apply(image, parameters, step.state)
                assert (result.mode, result.size, result.tobytes()) == (
                    image.mode,
                    image.size,
                    image.tobytes(),
                )


def test_impute_fills_and_scale_centres_and_encode_makes_columns() -> None:
    frame = table()
    impute = fitted("impute", {}, [frame])
    filled = METHODS["impute"].apply(frame, METHODS["impute"].Parameters(), impute.state)  # type: ignore[attr-defined]
    assert not filled.isna().any().any()
    assert filled.loc[3, "age"] == frame["age"].median()
    scale = fitted("scale", {}, [filled])
    encode = fitted("encode", {}, [filled])
    preprocessing = Preprocessing(
        problem=Problem.TABLE_CLASSIFICATION, features=FEATURES, steps=(impute, scale, encode)
    )
    result = preprocessing.table(frame)
    assert list(result.columns) == ["age", "town=Bern", "town=Graz", "town=Ulm", "income"]
    assert np.allclose(result[["age", "income"]].mean(), 0)
    assert np.allclose(result[["age", "income"]].std(ddof=0), 1)
    unseen = preprocessing.table(pd.DataFrame({"income": [1], "town": ["Rome"], "age": [None]}))
    assert unseen.filter(like="town=").to_numpy().tolist() == [[0, 0, 0]]
