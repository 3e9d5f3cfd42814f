"""Suites of a user's own: run with the built-in checks, or refused in words before anything is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.data.config import ValidateConfig
from tasks.data.manifest import Feature
from tasks.data.shards import schema
from tasks.data.storage.store import DatasetStore
from tasks.data.validation.validate import validate
from tasks.data.validation.validate_report import Check
from tasks.errors import InvalidData, InvalidSettings
from tasks.refs import DatasetRef, Problem
from tests.helpers.versions_in_pieces import Row, image, store_media, store_tables

FEATURES = (Feature(name="age", type="numeric"), Feature(name="town", type="categorical"))


@pytest.fixture
def table(store: DatasetStore) -> DatasetRef:
    layout = schema(Problem.TABLE_CLASSIFICATION, FEATURES, "buys", ("no", "yes"))
    columns = [
        [f"rows.csv#{n}" for n in range(1, 7)],
        [31.0, 45, 52, 29, 61, 31],
        list("BGBUBG"),
        [0, 1, 0, 1, 0, 1],
    ]
    rows = pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, layout, strict=True)], schema=layout
    )
    return store_tables(
        store, {"train": [rows]}, Problem.TABLE_CLASSIFICATION, FEATURES, ("no", "yes"), "buys"
    )


def own_checks(store: DatasetStore, ref: DatasetRef, *entries: dict[str, Any]) -> list[Check]:
    suite = json.dumps({"name": "mine", "expectations": list(entries)})
    report = validate(ref, store, ValidateConfig(), Path(store.url).parent / "docs", suite=suite)
    checks = [check for check in report.checks if check.suite == "mine"]
    assert len(checks) == len(entries)
    return checks


def test_own_expectations_stop_as_the_built_in_ones(
    store: DatasetStore, table: DatasetRef, tmp_path: Path
) -> None:
    suite = {
        "name": "customers",
        "expectations": [
            {
                "type": "expect_column_values_to_be_between",
                "kwargs": {"column": "age", "max_value": 60},
                "meta": {"notes": "ask the branch in Bern"},
            },
            {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "age", "max_value": 40}},
            {
                "type": "expect_column_values_to_be_in_set",
                "kwargs": {"column": "buys", "value_set": ["yes"]},
                "severity": "warning",
            },
        ],
    }
    report = validate(table, store, ValidateConfig(), tmp_path / "docs", suite=json.dumps(suite))
    limit, mean = report.failures
    assert limit.message == (
        "1 of 6 rows are not as expected: age values must be less than or equal to 60, such as rows.csv#5"
    )
    assert limit.mend == "ask the branch in Bern"
    assert mean.message == (
        "The version is not as expected: age mean must be less than or equal to 40 (found: 41.5)"
    )
    (warned,) = report.in_state("warned")
    assert warned.examples == ("rows.csv#1", "rows.csv#3", "rows.csv#5")
    with pytest.raises(InvalidData, match="less than or equal to 60"):
        report.require_success()
    page = (tmp_path / "docs" / report.docs_path).read_text()
    assert "(customers)" in page
    other = validate(table, store, ValidateConfig(), tmp_path / "docs")
    assert other.success
    assert other.docs_path != report.docs_path


def test_what_sees_the_whole_column(store: DatasetStore, table: DatasetRef) -> None:
    unique, order, count, exists = own_checks(
        store, table,
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "age"}},
        {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["age", "town"]}},
        {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 6}},
        {"type": "expect_column_to_exist", "kwargs": {"column": "height"}},
    )  # fmt: skip
    assert (unique.unexpected, unique.of, unique.examples) == (2, 6, ("rows.csv#1", "rows.csv#6"))
    assert order.success
    assert count.success
    assert not exists.success


def test_what_is_known_of_images(store: DatasetStore) -> None:
    rows: list[Row] = [(f"{n}.png", image(n, 8 + n, 8), n % 2) for n in range(4)]
    ref = store_media(store, {"train": rows}, Problem.IMAGE_CLASSIFICATION, ["cat", "dog"])
    width, mode, square, biggest = own_checks(
        store, ref,
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "image width", "max_value": 9}},
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "image mode", "value_set": ["L"]}},
        {
            "type": "expect_column_pair_values_to_be_equal",
            "kwargs": {"column_A": "image width", "column_B": "image height"},
        },
        {"type": "expect_column_max_to_be_between", "kwargs": {"column": "image width", "max_value": 10}},
    )  # fmt: skip
    assert width.examples == ("2.png", "3.png")
    assert mode.success
    assert square.unexpected == 3
    assert "(found: 11)" in biggest.message


def test_a_suite_is_never_passed_over(store: DatasetStore, table: DatasetRef, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"suite mine.json was not read"):
        validate(table, store, ValidateConfig(suite="mine.json"), tmp_path / "docs")


AGE = {"column": "age", "min_value": 0}
BETWEEN = "expect_column_values_to_be_between"


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        ("{", "not JSON"),
        ("[" * 5_000, "not JSON"),
        ("[1]", "no list named expectations"),
        ('{"expectations": []}', "has 0 expectations"),
        ('{"expectations": [7]}', "needs a type"),
        ({"type": "expect_column_values_to_be_betwen", "kwargs": AGE}, "expect_column_values_to_be_between"),
        ({"type": BETWEEN, "kwargs": {**AGE, "column": "height"}}, "not in the data: height"),
        ({"type": BETWEEN, "kwargs": {"min_value": 0}}, "column: field required"),
        ({"type": BETWEEN, "kwargs": {**AGE, "mostly": 7}}, "mostly"),
        ({"type": BETWEEN, "kwargs": {**AGE, "minimum": 7}}, "minimum: extra fields not permitted"),
        ({"type": BETWEEN, "kwargs": {**AGE, "min_value": {"$PARAMETER": "low"}}}, "is a parameter"),
        ({"type": BETWEEN, "kwargs": AGE, "severity": "fatal"}, "critical, warning, info"),
        ({"type": BETWEEN, "kwargs": {"column": "town", "min_value": 3}}, "cannot be computed"),
        ({"type": "expect_column_mean_to_be_between", "kwargs": {"column": "town"}}, "town"),
        ({"type": "unexpected_rows_expectation", "kwargs": {}}, "asks a database"),
        (
            {
                "type": BETWEEN,
                "kwargs": {**AGE, "row_condition": "age.to_pickle('x')", "condition_parser": "pandas"},
            },
            "row_condition is not accepted",
        ),
        (
            {
                "type": BETWEEN,
                "kwargs": {**AGE, "row_condition": {"type": "pass_through", "pass_through_filter": "1"}},
            },
            "row_condition is not accepted",
        ),
    ],
)  # fmt: skip
def test_suites_that_are_refused(
    store: DatasetStore, table: DatasetRef, tmp_path: Path, suite: Any, words: str
) -> None:
    text = suite if isinstance(suite, str) else json.dumps({"name": "mine", "expectations": [suite]})
    with pytest.raises(InvalidSettings) as caught:
        validate(table, store, ValidateConfig(), tmp_path / "docs", suite=text)
    assert words in str(caught.value)
    assert not (tmp_path / "docs").exists()
