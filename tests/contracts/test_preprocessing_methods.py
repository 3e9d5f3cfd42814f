"""What every preprocessing method must do, run against each of them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps
from pydantic import ValidationError

from tasks.data import methods
from tasks.data.config import StepConfig
from tasks.data.formats.audio import Sound, decoded, flac, rounded
from tasks.data.formats.images import plain_png_header, png
from tasks.data.manifest import Feature, FittedStep
from tasks.data.methods import (
    METHODS,
    AudioMethod,
    ImageMethod,
    Learning,
    PreprocessingMethod,
    TableMethod,
    TextMethod,
)
from tasks.data.methods.method import Batch
from tasks.data.preparation.geometry import moved_map, moved_objects
from tasks.data.preparation.preprocessing import Preprocessing
from tasks.errors import InvalidData
from tasks.refs import Problem

PROBLEMS = {
    "image": Problem.IMAGE_CLASSIFICATION,
    "text": Problem.TEXT_CLASSIFICATION,
    "audio": Problem.AUDIO_CLASSIFICATION,
    "table": Problem.TABLE_CLASSIFICATION,
}
NOT_DEFAULT: dict[str, list[dict[str, Any]]] = {
    "colour-mode": [{"mode": "grey"}, {"mode": "rgb"}],
    "resize": [{"width_px": 5, "height_px": 9, "filter": "lanczos"}],
    "pad": [{"to": "size", "width_px": 15, "height_px": 11, "fill": 255}, {"to": "size", "width_px": 5}],
    "centre-crop": [{"width_px": 5, "height_px": 40}],
    "flip": [{"direction": "vertical"}, {"direction": "both"}],
    "rotate": [{"angle_degrees": 30, "expand": True}, {"angle_degrees": 180}, {"angle_degrees": -90}],
    "blur": [{"radius_px": 2.5}],
    "sharpen": [{"radius_px": 1, "percent": 300, "threshold": 0}],
    "brightness": [{"factor": 0.5}],
    "contrast": [{"factor": 0.5}],
    "equalise": [{"of": "channels"}],
    "normalise": [{"by": "image"}],
    "impute": [
        {"numeric": "mean"},
        {"numeric": "most-frequent", "categorical": "constant"},
        {"numeric": "constant", "numeric_constant": -1},
        {"columns": ["age", "town"]},
    ],
    "scale": [{"to": "min-max"}, {"to": "robust"}, {"columns": ["income"]}],
    "encode": [{"to": "ordinal"}, {"to": "target"}, {"to": "target", "smoothing": 0, "columns": ["town"]}],
    "outliers": [{"by": "z-score", "z_limit": 1}, {"action": "drop"}, {"iqr_factor": 0.1}],
    "drop-columns": [{"columns": ["town"]}],
    "rename-columns": [{"names": {"age": "years", "town": "age"}}],
    "log": [{"base": "2", "add": 5}, {"signed": True, "columns": ["age"]}],
    "date-parts": [{"columns": ["born"], "parts": ["week", "days"]}, {"format": "%Y-%m-%d"}],
    "strip": [{"inner": True}],
    "mono": [{"of": "first"}],
    "resample": [{"rate_hz": 11_025}, {"rate_hz": 48_000}],
    "trim": [{"margin_s": 0.01}, {"longest_s": 0.02, "silence_db": 6}],
}
CASES = [(name, given) for name in METHODS for given in [{}, *NOT_DEFAULT.get(name, [])]]
FEATURES = (
    Feature(name="age", type="numeric"),
    Feature(name="town", type="categorical"),
    Feature(name="income", type="numeric"),
    Feature(name="self", type="numeric"),
    Feature(name="born", type="categorical"),
)
CLASSES = ("no", "perhaps", "yes")


def cases(kind: type[Any]) -> list[tuple[str, dict[str, Any]]]:
    return [case for case in CASES if isinstance(METHODS[case[0]], kind)]


def table(rows: int = 60) -> pd.DataFrame:
    random = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "age": random.normal(40, 9, rows),
            "town": pd.Series(random.choice(["Bern", "Graz", "Ulm"], rows), dtype="str"),
            "income": random.normal(3000, 400, rows),
            "self": random.integers(0, 4, rows).astype(float),
            "born": pd.Series(random.choice(["1999-12-31", "2004-02-29", "1970-01-01"], rows), dtype="str"),
        }
    )
    frame.loc[3, "age"] = np.nan
    frame.loc[5, "town"] = np.nan
    frame.loc[7, "born"] = np.nan
    return frame


def labels(rows: int) -> np.ndarray:
    return np.random.default_rng(8).integers(0, 3, rows).astype(np.float64)


def pictures(mode: str, count: int = 6) -> list[Image.Image]:
    random = np.random.default_rng(4)
    shape = (10, 12) if mode == "L" else (10, 12, 3)
    return [Image.fromarray(random.integers(0, 256, shape, np.uint8)) for _ in range(count)]


def sounds(channels: int) -> list[Sound]:
    random = np.random.default_rng(6)
    made = []
    for frames, rate_hz in ((800, 16_000), (441, 44_100), (1, 8_000), (500, 11_025)):
        samples = random.normal(0, 0.2, (frames, channels)).astype(np.float32)
        samples[: frames // 5] = 0
        made.append(rounded(Sound(samples, rate_hz)))
    return [*made, Sound(np.zeros((300, channels), np.float32), 16_000)]


def fitted(
    name: str,
    given: dict[str, Any],
    batches: Sequence[Any],
    targets: Sequence[np.ndarray] = (),
    classes: tuple[str, ...] = CLASSES,
) -> FittedStep:
    """A step as `fitting` makes it: `learn` asks, every batch answers through JSON-sized values."""
    method = METHODS[name]
    parameters = method.Parameters.model_validate(given)
    state = {}
    if isinstance(method, Learning):
        told = list(targets) or [None] * len(batches)

        def ask(question: Any) -> Iterator[Any]:
            for batch, target in zip(batches, told, strict=True):
                yield method.summarise(question, Batch(batch, target, classes), parameters)

        empty = batches[0].iloc[:0] if isinstance(batches[0], pd.DataFrame) else ()
        state = method.learn(ask, Batch(empty, np.empty(0), classes), parameters)
    step = StepConfig(method=PreprocessingMethod(name), parameters=given)
    return FittedStep(method=name, parameters=step.parameters, state=state)


def fitted_on(name: str, given: dict[str, Any], frame: pd.DataFrame, cuts: Sequence[int] = ()) -> FittedStep:
    bounds = [0, *cuts, len(frame)]
    parts = [slice(low, high) for low, high in pairwise(bounds)]
    target = labels(len(frame))
    return fitted(name, given, [frame[part] for part in parts], [target[part] for part in parts])


def applied(step: FittedStep, frame: pd.DataFrame) -> pd.DataFrame:
    method = METHODS[step.method]
    assert isinstance(method, TableMethod)
    return method.apply(frame, method.Parameters.model_validate(step.parameters), step.state)


def saved(modality: str, *steps: FittedStep, features: tuple[Feature, ...] = FEATURES) -> Preprocessing:
    """The steps as they travel with a model."""
    made = Preprocessing(problem=PROBLEMS[modality], features=features, steps=steps)
    return Preprocessing.from_json(made.to_json())


def test_every_method_is_in_the_form_with_its_parameters() -> None:
    modules = {path.stem.replace("_", "-") for path in Path(methods.__file__).parent.glob("[a-z]*.py")}
    assert set(METHODS) == modules - {"method", "summaries"}, (
        "a file that is not in the list, or a name beside its file"
    )
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
            StepConfig(method=PreprocessingMethod(name), parameters={field: {"not": ["this"]}})


@pytest.mark.parametrize(("name", "given"), cases(TableMethod))
class TestTableMethods:
    def test_state_is_json_and_does_not_depend_on_the_batches(self, name: str, given: dict[str, Any]) -> None:
        frame = table()
        whole = fitted_on(name, given, frame)
        assert FittedStep.model_validate(json.loads(whole.model_dump_json())) == whole
        assert fitted_on(name, given, frame, [1, 7, 30]) == whole
        target = labels(len(frame))
        parts = [slice(30, 60), slice(0, 7), slice(7, 7), slice(7, 30)]
        assert fitted(name, given, [frame[part] for part in parts], [target[part] for part in parts]) == whole

    def test_one_row_is_treated_as_in_a_batch(self, name: str, given: dict[str, Any]) -> None:
        frame = table()
        preprocessing = saved("table", fitted_on(name, given, frame))
        before = frame.copy()
        batch = preprocessing.table(frame)
        pd.testing.assert_frame_equal(frame, before)
        assert batch.index.equals(frame.index)
        for row in range(len(frame)):
            pd.testing.assert_frame_equal(preprocessing.table(frame.iloc[[row]]), batch.iloc[[row]])
        large = pd.concat([frame] * 20, ignore_index=True)
        pd.testing.assert_frame_equal(preprocessing.table(large).iloc[: len(frame)], batch)

    def test_an_empty_table_keeps_the_columns(self, name: str, given: dict[str, Any]) -> None:
        frame = table()
        preprocessing = saved("table", fitted_on(name, given, frame))
        empty = preprocessing.table(frame.iloc[:0])
        assert list(empty.columns) == list(preprocessing.table(frame).columns)
        assert list(empty.dtypes) == list(preprocessing.table(frame).dtypes)

    def test_rows_are_left_out_only_with_a_reason(self, name: str, given: dict[str, Any]) -> None:
        method = METHODS[name]
        assert isinstance(method, TableMethod)
        frame = table()
        step = fitted_on(name, given, frame)
        parameters = method.Parameters.model_validate(given)
        gone = method.left_out(frame, parameters, step.state, training=True)
        assert gone is None or (method.leaves_out and gone.shape == (len(frame),))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(("name", "given"), cases(ImageMethod))
class TestImageMethods:
    def test_the_same_image_comes_out_alone_and_in_a_batch(
        self, name: str, given: dict[str, Any], mode: str
    ) -> None:
        images = pictures(mode)
        step = fitted(name, given, [images[:2], images[2:]])
        assert step == fitted(name, given, [images])
        preprocessing = saved("image", step, features=(Feature(name="image", type="image"),))
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
                moved = method.geometry(image.size, parameters)
                assert moved is None or (moved.matrix == [[1, 0, 0], [0, 1, 0]]).all()

    def test_labels_follow_the_image(self, name: str, given: dict[str, Any], mode: str) -> None:
        """A bright block, its box, its polygon and its map are in the same place afterwards."""
        method = METHODS[name]
        assert isinstance(method, ImageMethod)
        parameters = method.Parameters.model_validate(given)
        pixels = np.zeros((40, 50), np.uint8)
        pixels[14:20, 22:32] = 255
        image = Image.fromarray(pixels).convert(mode)
        geometry = method.geometry(image.size, parameters)
        step = fitted(name, given, [[image]])
        result = method.apply(image, parameters, step.state)
        if geometry is None:
            assert result.size == image.size
            return
        assert geometry.size == result.size
        seen = np.asarray(result.convert("L"))
        label = np.where(pixels > 0, 7, 1).astype(np.uint8)
        moved = np.asarray(Image.open(io.BytesIO(moved_map(png(Image.fromarray(label)), [geometry]))))
        assert moved.shape == seen.shape
        assert set(np.unique(moved)) <= {0, 1, 7}
        margin = 255 if given.get("fill") == 255 else 0
        # Away from the edges, where the image is interpolated, both agree pixel for pixel.
        assert ((moved == 7) != (seen > 127))[moved > 0].mean() < 0.05
        if margin:
            assert (seen[moved == 0] == margin).all()
        block = {
            "bbox": [22.0, 14.0, 10.0, 6.0],
            "category": 1,
            "area": 60.0,
            "iscrowd": False,
            "segmentation": [[22.0, 14.0, 32.0, 14.0, 32.0, 20.0, 22.0, 20.0]],
        }
        objects, gone = moved_objects([block], geometry)
        if not (moved == 7).any():
            assert gone == len(objects) + 1
            return
        rows, columns = np.nonzero(moved == 7)
        x, y, width, height = objects[0]["bbox"]
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array([x, y, x + width, y + height]) - edges).max() <= 1
        assert objects[0]["area"] == pytest.approx((moved == 7).sum(), rel=0.25, abs=2)
        assert gone == 0


TEXTS = ["  Grüße aus\tBERN ", "ΣΊΣΥΦΟΣ", "", "a\n\nb", "İstanbul"]


@pytest.mark.parametrize(("name", "given"), cases(TextMethod))
def test_a_text_method_gives_a_text_and_nothing_more_the_second_time(
    name: str, given: dict[str, Any]
) -> None:
    step = fitted(name, given, [TEXTS])
    preprocessing = saved("text", step, features=(Feature(name="text", type="text"),))
    once = preprocessing.texts(TEXTS)
    assert all(isinstance(text, str) for text in once)
    assert [preprocessing.texts([text])[0] for text in TEXTS] == once
    assert preprocessing.texts(once) == once


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("name", "given"), cases(AudioMethod))
def test_a_sound_method_gives_a_sound_as_it_is_stored(
    name: str, given: dict[str, Any], channels: int
) -> None:
    step = fitted(name, given, [sounds(channels)])
    preprocessing = saved("audio", step, features=(Feature(name="audio", type="audio"),))
    heard = sounds(channels)
    before = [sound.samples.copy() for sound in heard]
    for sound, samples, result in zip(heard, before, preprocessing.sounds(heard), strict=True):
        assert np.array_equal(sound.samples, samples)
        assert result.samples.dtype == np.float32
        assert result.samples.ndim == 2
        assert len(result.samples) > 0
        assert np.abs(result.samples).max() <= 1
        stored = decoded(flac(result))
        assert stored.rate_hz == result.rate_hz
        assert np.array_equal(stored.samples, result.samples)


def test_impute_fills_and_scale_centres_and_encode_makes_columns() -> None:
    frame = table()[["age", "town", "income"]]
    impute = fitted_on("impute", {}, frame)
    filled = applied(impute, frame)
    assert not filled.isna().any().any()
    assert filled.loc[3, "age"] == frame["age"].median()
    scale = fitted_on("scale", {}, filled)
    encode = fitted_on("encode", {}, filled)
    preprocessing = saved("table", impute, scale, encode, features=FEATURES[:3])
    result = preprocessing.table(frame)
    assert list(result.columns) == ["age", "town=Bern", "town=Graz", "town=Ulm", "income"]
    assert np.allclose(result[["age", "income"]].mean(), 0)
    assert np.allclose(result[["age", "income"]].std(ddof=0), 1)
    unseen = preprocessing.table(pd.DataFrame({"income": [1], "town": ["Rome"], "age": [None]}))
    assert unseen.filter(like="town=").to_numpy().tolist() == [[0, 0, 0]]


def test_impute_knows_every_strategy() -> None:
    frame = table()
    frame["self"] = frame["self"].where(frame.index % 5 > 0)
    mode = fitted_on("impute", {"numeric": "most-frequent"}, frame, [10, 20]).state["fill"]
    assert mode["self"] == frame["self"].mode()[0]
    assert mode["town"] == frame["town"].mode()[0]
    mean = fitted_on("impute", {"numeric": "mean"}, frame, [10, 20]).state["fill"]
    assert mean["age"] == pytest.approx(frame["age"].mean(), rel=1e-14)
    words = fitted_on("impute", {"numeric": "constant", "numeric_constant": 9}, frame).state["fill"]
    assert words["age"] == 9
    dropped = fitted_on("impute", {"numeric": "drop", "categorical": "drop"}, frame)
    method = METHODS["impute"]
    assert isinstance(method, TableMethod)
    parameters = method.Parameters.model_validate(dropped.parameters)
    for training in (True, False):
        gone = method.left_out(frame, parameters, dropped.state, training=training)
        assert gone is not None
        assert (gone == frame.isna().any(axis=1)).all()
    assert applied(dropped, frame.dropna()).equals(frame.dropna())
    with pytest.raises(InvalidData, match=r"missing in the column age.*row 2 of 3"):
        saved("table", dropped).table(table().iloc[[8, 3, 9]])


def test_a_request_with_a_gap_that_nothing_can_fill_is_refused() -> None:
    names = pd.DataFrame({"name": pd.Series([f"n{row}" for row in range(60_000)], dtype="str")})
    features = (Feature(name="name", type="categorical"),)
    step = fitted("impute", {}, [names[:40_000], names[40_000:]])
    with pytest.raises(InvalidData, match="too many different values for a most frequent one"):
        saved("table", step, features=features).table(pd.DataFrame({"name": [None]}))
    with pytest.raises(InvalidData, match="more than 50,000 different values, too many for ordinal"):
        fitted("encode", {"to": "ordinal"}, [names[:40_000], names[40_000:]])


def test_scales_are_those_of_scikit_learn() -> None:
    from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

    frame = table()[["age", "income", "self"]].dropna()
    for to, scaler in (("standard", StandardScaler), ("min-max", MinMaxScaler), ("robust", RobustScaler)):
        ours = applied(fitted_on("scale", {"to": to}, frame, [5, 31]), frame)
        np.testing.assert_allclose(ours, scaler().fit_transform(frame), rtol=1e-12, atol=1e-12)


def test_target_encoding_is_the_smoothed_mean_of_the_label() -> None:
    frame = pd.DataFrame({"town": pd.Series(["Bern", "Bern", "Ulm", "Ulm", "Ulm", None], dtype="str")})
    numbers = np.array([1.0, 3.0, 10.0, 20.0, 30.0, 8.0])
    step = fitted(
        "encode", {"to": "target", "smoothing": 2}, [frame[:3], frame[3:]], [numbers[:3], numbers[3:]], ()
    )
    prior = numbers.mean()
    result = applied(step, pd.DataFrame({"town": ["Bern", "Ulm", "Rome", None]}))
    assert list(result.columns) == ["town"]
    expected = [(4 + 2 * prior) / 4, (60 + 2 * prior) / 5, prior, prior]
    np.testing.assert_allclose(result["town"], expected, rtol=1e-14)
    two = np.array([0.0, 1, 1, 1, 0, 0])
    binary = fitted("encode", {"to": "target", "smoothing": 0}, [frame], [two], ("no", "yes"))
    assert applied(binary, frame)["town"].tolist() == pytest.approx([0.5, 0.5, 2 / 3, 2 / 3, 2 / 3, 0.5])
    three = np.array([0.0, 1, 2, 2, 0, 0])
    several = applied(fitted("encode", {"to": "target", "smoothing": 0}, [frame], [three]), frame)
    assert list(several.columns) == ["town=no", "town=perhaps", "town=yes"]
    np.testing.assert_allclose(several.sum(axis=1), 1)
    assert several.iloc[2].tolist() == pytest.approx([1 / 3, 0, 2 / 3])


def test_outliers_are_clipped_or_left_out_of_training_rows() -> None:
    frame = pd.DataFrame({"x": [*np.arange(20.0), 1000.0, np.nan], "flag": [0.0] * 20 + [1.0, 1.0]})
    clip = fitted("outliers", {}, [frame[:9], frame[9:]])
    low, high = np.nanpercentile(frame["x"], [25, 75])
    assert clip.state["high"] == {"x": pytest.approx(high + 1.5 * (high - low))}  # flag has no width
    assert applied(clip, frame)["x"].iloc[20] == clip.state["high"]["x"]
    assert np.isnan(applied(clip, frame)["x"].iloc[21])
    method = METHODS["outliers"]
    assert isinstance(method, TableMethod)
    drop = method.Parameters.model_validate({"action": "drop", "by": "z-score", "columns": ["x"]})
    state = fitted("outliers", {"action": "drop", "by": "z-score", "columns": ["x"]}, [frame]).state
    assert state["low"]["x"] == pytest.approx(frame["x"].mean() - 3 * frame["x"].std(ddof=0))
    gone = method.left_out(frame, drop, state, training=True)
    assert gone is not None
    assert np.flatnonzero(gone).tolist() == [20]
    assert method.left_out(frame, drop, state, training=False) is None
    assert method.apply(frame, drop, state) is frame


def test_log_takes_what_has_one_and_names_what_has_none() -> None:
    frame = pd.DataFrame({"x": [0.0, np.e - 1, np.nan], "y": [-3.0, 0.0, 7.0]})
    assert applied(fitted("log", {"columns": ["x"]}, [frame]), frame)["x"].tolist()[:2] == [0.0, 1.0]
    signed = applied(fitted("log", {"columns": ["y"], "signed": True, "base": "2"}, [frame]), frame)
    assert signed["y"].tolist() == pytest.approx([-2, 0, 3])
    with pytest.raises(InvalidData, match=r"-3 in the column y has no logarithm.*row 1 of 3"):
        applied(fitted("log", {}, [frame]), frame)


def test_dates_become_numbers_and_wrong_ones_are_named() -> None:
    frame = pd.DataFrame(
        {
            "bought": ["2026-11-21T09:58:30", "2024-02-29", None],
            "word": ["a", "b", "c"],
            "mixed": ["2024-02-29", "x", None],
        },
        dtype="str",
    )
    step = fitted(
        "date-parts", {"parts": ["year", "month", "day", "weekday", "hour", "day-of-year"]}, [frame]
    )
    assert step.state == {"columns": ["bought"]}
    result = applied(step, frame)
    assert list(result.columns)[:2] == ["bought.year", "bought.month"]
    assert result.iloc[0, :6].tolist() == [2026, 11, 21, 5, 9, 325]
    assert result.iloc[1, :6].tolist() == [2024, 2, 29, 3, 0, 60]
    assert result.iloc[2, :6].isna().all()
    named = fitted("date-parts", {"columns": ["mixed"]}, [frame])
    with pytest.raises(InvalidData, match=r"column mixed holds 'x', which is not a date.*row 2 of 3"):
        applied(named, frame)
    german = pd.DataFrame({"tag": pd.Series(["21.11.2026", "01.02.2024"], dtype="str")})
    assert fitted("date-parts", {}, [german]).state == {"columns": []}
    read = fitted("date-parts", {"format": "%d.%m.%Y", "parts": ["month"]}, [german])
    assert applied(read, german)["tag.month"].tolist() == [11, 2]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("rename-columns", {"names": {"gone": "x"}}, "no column gone for the method rename-columns"),
        ("rename-columns", {"names": {"age": "income"}}, "two columns would be named income"),
        ("drop-columns", {"columns": ["gone"]}, "no column gone"),
        ("scale", {"columns": ["town"]}, "no numeric column town for the method scale"),
        ("encode", {"columns": ["age"]}, "no categorical column age for the method encode"),
    ],
)
def test_columns_that_are_not_there_are_named(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        applied(fitted_on(name, given, table()), table())


def test_images_come_out_as_their_methods_say() -> None:
    (image,) = pictures("RGB", 1)
    pixels = np.asarray(image).astype(int)

    def result(name: str, **given: Any) -> np.ndarray:
        method = METHODS[name]
        assert isinstance(method, ImageMethod)
        step = fitted(name, given, [[image]])
        return np.asarray(method.apply(image, method.Parameters.model_validate(given), step.state)).astype(
            int
        )

    assert (result("invert") == 255 - pixels).all()
    assert (result("flip", direction="both") == pixels[::-1, ::-1]).all()
    assert (result("equalise", of="channels") == np.asarray(ImageOps.equalize(image))).all()
    padded = result("pad", fill=9)
    assert padded.shape == (12, 12, 3)
    assert (padded[1:11] == pixels).all()
    assert (padded[[0, 11]] == 9).all()
    z = (pixels - pixels.mean(axis=(0, 1))) / pixels.std(axis=(0, 1))
    assert np.abs(result("normalise") - np.clip(128 + 64 * z, 0, 255)).max() <= 0.5 + 1e-9
    stretched = result("normalise", by="image")
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert result("contrast", factor=0).std() == 0
    assert result("contrast", factor=2).std() > pixels.std() > result("contrast", factor=0.5).std()
    smooth = Image.fromarray(np.asarray(image)).resize((60, 60), Image.Resampling.BICUBIC)
    sharpen = METHODS["sharpen"]
    assert isinstance(sharpen, ImageMethod)
    assert np.asarray(sharpen.apply(smooth, sharpen.Parameters(), {})).std() > np.asarray(smooth).std()


def test_normalise_learns_from_grey_and_colour_together() -> None:
    images = [*pictures("L", 3), *pictures("RGB", 2)]
    step = fitted("normalise", {}, [images[:1], images[1:4], images[4:]])
    values = np.concatenate([np.asarray(one.convert("RGB")).reshape(-1, 3) for one in images])
    np.testing.assert_allclose(step.state["mean"], values.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(step.state["deviation"], values.std(axis=0), rtol=1e-13)
    flat = fitted("normalise", {}, [[Image.new("L", (4, 4), 30)]])
    method = METHODS["normalise"]
    assert isinstance(method, ImageMethod)
    assert method.apply(Image.new("L", (2, 2), 30), method.Parameters(), flat.state).getextrema() == (
        128,
        128,
    )


def test_sounds_come_out_as_their_methods_say() -> None:
    rate_hz, seconds = 44_100, 0.5
    time = np.arange(int(rate_hz * seconds)) / rate_hz
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    stereo = Sound(np.stack([tone, 0 * tone], axis=1).astype(np.float32), rate_hz)

    def result(name: str, sound: Sound, **given: Any) -> Sound:
        method = METHODS[name]
        assert isinstance(method, AudioMethod)
        return method.apply(sound, method.Parameters.model_validate(given), {})

    np.testing.assert_allclose(result("mono", stereo).samples[:, 0], tone / 2, atol=1e-6)
    np.testing.assert_allclose(result("mono", stereo, of="first").samples[:, 0], tone, atol=1e-6)
    slow = result("resample", stereo, rate_hz=8_000)
    assert (slow.rate_hz, slow.samples.shape) == (8_000, (4_000, 2))
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(4_000) / 8_000)
    np.testing.assert_allclose(slow.samples[100:-100, 0], expected[100:-100], atol=0.005)
    silence = np.zeros((1_000, 2), np.float32)
    padded = Sound(np.concatenate([silence, stereo.samples + 0.1, silence]), rate_hz)
    assert np.array_equal(result("trim", padded).samples, stereo.samples + np.float32(0.1))
    kept = result("trim", padded, margin_s=100 / rate_hz)
    assert len(kept.samples) == len(stereo.samples) + 200
    assert len(result("trim", padded, longest_s=0.1).samples) == 4_410
    mute = Sound(silence, rate_hz)
    assert result("trim", mute) is mute


def test_every_method_is_in_the_documentation_with_its_parameters() -> None:
    lines = Path(__file__).parents[2].joinpath("docs/datasets.md").read_text().splitlines()
    for name, method in METHODS.items():
        (line,) = [line for line in lines if line.startswith(f"| `{name}` |")]
        for field in method.Parameters.model_fields:
            assert f"`{field}`" in line
