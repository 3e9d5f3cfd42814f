"""The formats table: every request form, its answer, and everything that a client can get wrong."""

from __future__ import annotations

import base64
import io
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks.data.formats.images import FORMATS
from tasks.refs import Problem
from tasks.serve import wire, wire_images
from tasks.serve.wire import Column, Limits, Refusal, Signature

IRIS = Signature(
    Problem.TABLE_CLASSIFICATION,
    tuple(
        Column(name, numeric=True) for name in ("sepal_length", "sepal_width", "petal_length", "petal_width")
    ),
    ("setosa", "versicolor", "virginica"),
)
HOUSES = Signature(
    Problem.TABLE_REGRESSION,
    (
        Column("rooms", numeric=True),
        Column("district", numeric=False, categories=("north", "south")),
        Column("zone", numeric=False, categories=("1", "2")),
    ),
)
PETS = Signature(Problem.IMAGE_CLASSIFICATION, classes=("cat", "dog", "fox"))
DIGITS = Signature(Problem.IMAGE_CLASSIFICATION, classes=("0", "5", "7"))
ROW = [6.8, 2.8, 4.8, 1.4]


def file_of(kind: str = "PNG", size: tuple[int, int] = (8, 8), mode: str = "RGB") -> bytes:
    sink = io.BytesIO()
    Image.new(mode, size).save(sink, kind)
    return sink.getvalue()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def refusal_of(call: Any, *arguments: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value


def test_table_request_and_answer_are_as_the_table_says() -> None:
    rows = wire.read_rows(wire.read_instances(body({"instances": [ROW]}), Limits()), IRIS)
    assert rows == [ROW]
    answer = json.loads(wire.write_predictions(np.array([[0.34, 0.33, 0.33]]), IRIS))
    assert answer == {"predictions": [[0.34, 0.33, 0.33]]}


def test_regression_answers_a_number_per_instance() -> None:
    assert json.loads(wire.write_predictions(np.array([1.5, -2.0]), HOUSES)) == {"predictions": [1.5, -2.0]}


def test_image_answer_is_best_first_with_labels() -> None:
    answer = json.loads(wire.write_predictions(np.array([[0.25, 0.5, 0.25], [0.75, 0.0, 0.25]]), PETS))
    assert answer == {
        "predictions": [
            [
                {"score": 0.5, "label": "dog"},
                {"score": 0.25, "label": "cat"},
                {"score": 0.25, "label": "fox"},
            ],
            [
                {"score": 0.75, "label": "cat"},
                {"score": 0.25, "label": "fox"},
                {"score": 0.0, "label": "dog"},
            ],
        ]
    }


def test_form_answer_is_the_integer_label() -> None:
    scores = np.array([[0.1, 0.8, 0.1]])
    assert wire.write_label(scores, PETS) == b"[1]"
    assert wire.write_label(scores, DIGITS) == b"[5]"


@pytest.mark.parametrize("kind", FORMATS)
def test_every_image_kind_that_ingest_takes_is_read(kind: str) -> None:
    images = wire_images.read_images([{"data": encoded(file_of(kind))}], Limits())
    assert images[0].size == (8, 8)


def test_base64_with_line_breaks_is_read() -> None:
    text = base64.encodebytes(file_of(size=(64, 64))).decode()
    assert "\n" in text
    assert wire_images.read_images([{"data": text}], Limits())[0].size == (64, 64)


def test_scores_survive_the_trip_exactly() -> None:
    scores = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    answer = json.loads(wire.write_predictions(scores, IRIS))["predictions"]
    assert (np.asarray(answer).astype(np.float32) == scores).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"instances": [[NaN, 1, 1, 1]]}', "not valid JSON"),
        (b'{"instances": [[Infinity, 1, 1, 1]]}', "not valid JSON"),
        (b'{"instances": [[1e999, 1, 1, 1]]}', "not valid JSON"),
        (b"[" * 5000 + b"]" * 5000, "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (pickle.dumps({"instances": [ROW]}), "not valid JSON"),
        (b"[[1, 2, 3, 4]]", "The body is a list"),
        (b"null", "The body is null"),
        (b"{}", "'instances' is missing (keys found: none)"),
        (b'{"inputs": [[1, 2, 3, 4]]}', "'instances' is missing (keys found: 'inputs')"),
        (b'{"instances": [[1, 2, 3, 4]], "signature": 1}', "keys beside 'instances': 'signature'"),
        (b'{"instances": {"a": 1}}', "'instances' is an object"),
        (b'{"instances": "x"}', "'instances' is a text ('x')"),
        (b'{"instances": null}', "'instances' is null"),
        (b'{"instances": []}', "empty list"),
    ],
)
def test_a_body_that_is_no_request_is_refused(content: bytes, words: str) -> None:
    refusal = refusal_of(wire.read_instances, content, Limits())
    assert refusal.status == 400
    assert words in str(refusal)
    assert refusal.mend


def test_too_many_instances_are_refused_with_the_limit() -> None:
    refusal = refusal_of(wire.read_instances, body({"instances": [ROW] * 9}), Limits(max_instances=8))
    assert refusal.status == 413
    assert "9 instances" in str(refusal)
    assert "at most 8" in str(refusal)


@pytest.mark.parametrize(
    ("row", "where", "words"),
    [
        ([1, 2, 3], "instances[1]", "instance 1 has 3 values"),
        ([1, 2, 3, 4, 5], "instances[1]", "instance 1 has 5 values"),
        ([], "instances[1]", "instance 1 has 0 values"),
        ([1, 2, None, 4], "instances[1][2]", "(petal_length) is null"),
        ([1, 2, "3.0", 4], "instances[1][2]", "(petal_length) is a text ('3.0')"),
        ([1, 2, True, 4], "instances[1][2]", "is a boolean (true)"),
        ([1, 2, [3], 4], "instances[1][2]", "is a list"),
        ({"sepal_length": 1}, "instances[1]", "instance 1 is an object"),
        (7, "instances[1]", "instance 1 is a number (7)"),
        (None, "instances[1]", "instance 1 is null"),
    ],
)
def test_a_row_that_the_model_cannot_take_is_refused_by_its_place(row: Any, where: str, words: str) -> None:
    refusal = refusal_of(wire.read_rows, [ROW, row], IRIS)
    assert refusal.status == 400
    assert refusal.where == where
    assert words in refusal.what
    assert refusal.allowed
    assert refusal.mend


def test_categories_are_texts_and_codes_may_be_numbers() -> None:
    assert wire.read_rows([[3, "north", 1], [3, "west", "2"]], HOUSES)
    refusal = refusal_of(wire.read_rows, [[3, 5, 1]], HOUSES)
    assert refusal.where == "instances[0][1]"
    assert "one of north, south" in refusal.allowed


@pytest.mark.parametrize(
    ("instance", "status", "words"),
    [
        ("abc", 400, "Instance 0 is a text"),
        ([1, 2], 400, "Instance 0 is a list"),
        ({}, 400, "'data' is missing"),
        ({"image": "abc"}, 400, "'data' is missing"),
        ({"data": "aGk=", "url": "http://x"}, 400, "keys beside 'data': 'url'"),
        ({"data": 7}, 400, "'data' of instance 0 is a number"),
        ({"data": None}, 400, "'data' of instance 0 is null"),
        ({"data": "***"}, 400, "not base64"),
        ({"data": "data:image/png;base64,aGk="}, 400, "not base64"),
        ({"data": "aGk"}, 400, "not base64"),
        ({"data": ""}, 422, "The image file is empty"),
        ({"data": encoded(b"hello world")}, 422, "not an image of a known kind"),
        ({"data": encoded(b"%PDF-1.4 nothing")}, 422, "not an image of a known kind"),
        ({"data": encoded(file_of(size=(200, 200))[:80])}, 422, "cannot be decoded"),
        ({"data": encoded(file_of("JPEG", (64, 64))[:300])}, 422, "cannot be decoded"),
    ],
)
def test_an_image_that_cannot_be_read_is_refused_by_its_place(instance: Any, status: int, words: str) -> None:
    good = {"data": encoded(file_of())}
    refusal = refusal_of(wire_images.read_images, [instance, good], Limits())
    assert refusal.status == status
    assert words in str(refusal)
    assert refusal.where.startswith("instances[0]")
    assert refusal.mend


def test_an_image_bomb_is_refused_by_its_header() -> None:
    bomb = file_of(size=(3000, 3000), mode="1")
    assert len(bomb) < 10_000
    refusal = refusal_of(wire_images.decode_image, bomb, "input", Limits(max_image_pixels=1_000_000))
    assert refusal.status == 413
    assert "3000 x 3000 pixels" in str(refusal)
    assert "1,000,000" in str(refusal)


def test_an_image_beyond_pillows_own_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    refusal = refusal_of(wire_images.decode_image, file_of(), "input", Limits())
    assert refusal.status == 413


@pytest.mark.parametrize(
    ("scores", "wrong"),
    [
        (np.zeros((2, 3)), None),
        (np.zeros((2, 2)), "shape (2, 2) where (2, 3) is right"),
        (np.zeros(2), "shape (2,)"),
        (np.array([[0.0, np.nan, 1.0], [0.0, 0.0, 1.0]]), "not finite"),
    ],
)
def test_scores_are_checked_before_they_are_sent(scores: np.ndarray, wrong: str | None) -> None:
    found = wire.check_scores(scores, 2, IRIS)
    assert (found is None) if wrong is None else (wrong in str(found))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_any_json_ends_in_rows_or_a_refusal(value: Any) -> None:
    statuses: list[int] = []
    for content in (body(value), body({"instances": value}), body({"instances": [value]})):
        for signature in (IRIS, HOUSES):
            try:
                rows = wire.read_rows(wire.read_instances(content, Limits()), signature)
                assert all(len(row) == len(signature.columns) for row in rows)
            except Refusal as refusal:
                statuses.append(refusal.status)
        try:
            wire_images.read_images(wire.read_instances(content, Limits()), Limits())
        except Refusal as refusal:
            statuses.append(refusal.status)
    assert all(400 <= status < 500 for status in statuses)


def test_the_images_of_one_request_share_a_budget_of_pixels() -> None:
    instances = [{"data": encoded(file_of())}] * 3
    size = wire_images.read_images(instances[:1], Limits())[0]
    pixels = size.width * size.height
    assert len(wire_images.read_images(instances, Limits(max_request_pixels=3 * pixels))) == 3
    refusal = refusal_of(wire_images.read_images, instances, Limits(max_request_pixels=3 * pixels - 1))
    assert refusal.status == 413
    assert "instances[2]" in str(refusal)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_refusal(content: bytes) -> None:
    assert refusal_of(wire.read_instances, content, Limits()).status == 400
    assert refusal_of(wire_images.decode_image, content, "input", Limits()).status in (413, 422)


def test_a_refusal_travels_between_processes() -> None:
    refusal = Refusal(413, "too large", where="body", allowed="less", mend="send less")
    again = pickle.loads(pickle.dumps(refusal))
    assert (again.status, str(again)) == (413, str(refusal))
