"""By partition, the verdict is that of one pass over the whole."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tasks.data.config import PreprocessConfig, ValidateConfig
from tasks.data.manifest import SPLITS, Feature
from tasks.data.shards import schema
from tasks.data.storage.store import DatasetStore
from tasks.data.validation import judging
from tasks.data.validation.expectations import EXAMPLES, library
from tasks.data.validation.validate import validate
from tasks.data.validation.validate_report import ValidationReport
from tasks.refs import Problem
from tests.helpers.versions_in_pieces import Row, box, cut, image, store_media, store_tables

FEATURES = (Feature(name="age", type="numeric"), Feature(name="town", type="categorical"))
CLASSES = ("no", "yes", "perhaps")
SUITE = [
    {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "age", "min_value": 20, "mostly": 0.8},
    },
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "town", "mostly": 0.9}},
    {"type": "expect_column_values_to_be_null", "kwargs": {"column": "town"}},
    {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "town", "regex": "^[BG]"}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "buys", "value_set": ["yes", "no"]}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "age"}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id", "mostly": 0.5}},
    {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "age", "min_value": 30}},
    {"type": "expect_column_median_to_be_between", "kwargs": {"column": "age", "max_value": 40}},
    {"type": "expect_column_unique_value_count_to_be_between", "kwargs": {"column": "town", "max_value": 2}},
    {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["age", "town"]}},
    {"type": "expect_column_pair_values_to_be_equal", "kwargs": {"column_A": "town", "column_B": "buys"}},
    {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 20}},
    {"type": "expect_column_to_exist", "kwargs": {"column": "town"}},
    {
        "type": "expect_column_values_to_be_between",
        "kwargs": {
            "column": "age",
            "min_value": 30,
            "row_condition": 'col("town") == "Bern"',
            "condition_parser": "great_expectations",
        },
    },
]

rows = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 60).map(float), st.just(np.inf)),
        st.one_of(st.none(), st.sampled_from(["Bern", "Graz", "Ulm"])),
        st.one_of(st.none(), st.integers(0, 3)),  # 3 is no class
        st.integers(0, 40),  # part of the id: some repeat
    ),
    min_size=1,
    max_size=40,
)
versions = st.fixed_dictionaries({"train": rows}, optional={"validation": rows, "test": rows})
several = settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # one takes ten seconds: too long to shrink
)


def tables_of(version: dict[str, list[tuple[Any, ...]]], cuts: list[int]) -> dict[str, list[pa.Table]]:
    layout = schema(Problem.TABLE_CLASSIFICATION, FEATURES, "buys", CLASSES)
    tables = {}
    for split, each in version.items():
        ages, towns, labels, numbers = zip(*each, strict=True)
        ids = [f"{split}#{number}" for number in numbers]
        columns = [pa.array(ids), pa.array(ages, pa.float64()), pa.array(towns, pa.string())]
        tables[split] = cut(pa.table([*columns, pa.array(labels, pa.int64())], schema=layout), cuts)
    return tables


def frame_of(version: dict[str, list[tuple[Any, ...]]]) -> pd.DataFrame:
    """The whole version as its owner sees it."""
    tables = [table for split in SPLITS for table in tables_of(version, []).get(split, ())]
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    names = {**dict(enumerate(CLASSES)), 3: "3, which is no class"}
    frame["buys"] = frame["buys"].map(names).astype("str")
    return frame


def judged(
    version: dict[str, list[tuple[Any, ...]]], cuts: list[int], folder: Path, client: Any = None
) -> ValidationReport:
    store = DatasetStore(str(folder / f"store{len(list(folder.iterdir()))}"))
    tables = tables_of(version, cuts)
    ref = store_tables(store, tables, Problem.TABLE_CLASSIFICATION, FEATURES, CLASSES, "buys")
    suite = json.dumps({"name": "own", "expectations": SUITE})
    config = ValidateConfig(max_duplicates_across_splits_percent=20)
    return validate(ref, store, config, folder / "docs", PreprocessConfig(), client, suite=suite)


def findings(report: ValidationReport) -> dict[str, Any]:
    return report.model_dump(exclude={"dataset", "docs_path"})


def one_pass(frame: pd.DataFrame) -> list[Any]:
    """The suite on the whole frame, by the library alone."""
    gx = library()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    suite = gx.ExpectationSuite(name="own")
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    for place, one in enumerate(SUITE):
        expectation: Any = ExpectationConfiguration(type=one["type"], kwargs=one["kwargs"]).to_domain_obj()  # type: ignore[arg-type]
        expectation.meta = {"place": place}
        suite.expectations.append(expectation)
    batch = context.data_sources.add_pandas("p").add_dataframe_asset("a")
    batch = batch.add_batch_definition_whole_dataframe("b").get_batch({"dataframe": frame})
    results = batch.validate(suite, result_format={"result_format": "COMPLETE"}).results
    return sorted(results, key=lambda one: int(one.expectation_config.meta["place"]))


@several
@given(version=versions, cuts=st.lists(st.integers(1, 39), max_size=5), most=st.integers(12, 40))
def test_however_the_rows_are_cut(version: dict[str, Any], cuts: list[int], most: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        whole = judged(version, [], Path(folder))
        patch.setattr(judging, "PARTITION_ROWS", most)
        report = judged(version, cuts, Path(folder))
    assert findings(report) == findings(whole)
    as_the_library_judges_the_whole(report, frame_of(version))
    as_the_rows_are_counted(report, version)


def as_the_library_judges_the_whole(report: ValidationReport, frame: pd.DataFrame) -> None:
    own = [check for check in report.checks if check.suite]
    for check, result in zip(own, one_pass(frame), strict=True):
        assert check.success == result.success, check
        if "element_count" not in result.result:
            continue
        assert check.unexpected == result.result["unexpected_count"], check
        assert check.of == result.result["element_count"], check
        positions = result.result["unexpected_index_list"][:EXAMPLES]
        assert list(check.examples) == frame["id"].iloc[positions].tolist(), check


def as_the_rows_are_counted(report: ValidationReport, version: dict[str, Any]) -> None:
    """What compares rows, counted once more in the plainest way."""
    lines = [(split, *row) for split, each in version.items() for row in each]
    ids = [(line[0], line[4]) for line in lines]
    splits_of: dict[Any, set[str]] = {}
    for split, age, town, *_ in lines:
        splits_of.setdefault((age, town), set()).add(split)
    labels = [line[3] for line in lines if line[3] is not None]
    trained = {line[3] for line in lines if line[0] == "train"}
    expected = {
        "labelled": sum(line[3] is None for line in lines),
        "identified": sum(ids.count(one) > 1 for one in ids),
        "separate splits": sum(len(splits_of[line[1:3]]) > 1 for line in lines),
        "known labels": labels.count(3),
        "class size": sum(labels.count(one) < 2 for one in labels),
        "classes in training": sum(one not in trained for one in labels),
        "classes present": sum(number not in labels for number in range(3)),
        "finite values": sum(line[1] == np.inf for line in lines),
    }
    built_in = [check for check in report.checks if not check.suite]
    found = {check.name: check.unexpected for check in built_in if check.name in expected}
    assert found == expected
    gaps = {check.column: check.unexpected for check in built_in if check.name == "values present"}
    for column, place in (("age", 1), ("town", 2)):
        assert gaps.get(column, 0) == sum(line[place] is None for line in lines)


def test_media_in_pieces(store: DatasetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    train: list[Row] = []
    for number in range(40):
        objects = [
            box(int(random.integers(0, 4)), *random.uniform(0, 12, 2), *random.uniform(-1, 6, 2))
            for _ in range(random.integers(0, 4))
        ]
        content = image(number, 16, 12)
        train.append(
            (f"{number}.png", content[: 60 if number == 7 else None], None if number % 9 == 4 else objects)
        )
    test: list[Row] = [("copy.png", image(3, 16, 12), [box(2, 1, 1, 3, 3)])]
    reports = []
    for place, cuts in enumerate(([], [5, 6, 7, 8, 25])):
        monkeypatch.setattr(judging, "PARTITION_ROWS", 10)
        rows = {"train": train, "test": test}
        ref = store_media(store, rows, Problem.OBJECT_DETECTION, ["a", "b", "c"], cuts=cuts, name=f"n{place}")
        reports.append(findings(validate(ref, store, ValidateConfig(), tmp_path / "docs")))
    assert reports[0] == reports[1]
    assert not reports[0]["success"]


def test_columns_that_are_named_as_facts_are(any_store: DatasetStore, tmp_path: Path) -> None:
    """On a disk and on S3."""
    names = ["row split", "row label", "row gaps in other columns", "image width"]
    features = [Feature(name=name, type="numeric") for name in names]
    layout = schema(Problem.TABLE_REGRESSION, features, "row class size", ())
    values = [[1.0, 2, 3, None], [1.0, 2, 3, 4], [1.0, 2, 3, 4], [None, None, 3, 4], [1.0, 2, 3, 4]]
    table = pa.table(
        [pa.array(list("abcd")), *(pa.array(each, pa.float64()) for each in values)], schema=layout
    )
    tables = {"train": cut(table, [1, 3])}
    ref = store_tables(any_store, tables, Problem.TABLE_REGRESSION, features, (), "row class size")
    entry = {"type": "expect_column_max_to_be_between", "kwargs": {"column": "row split", "max_value": 3}}
    suite = json.dumps({"expectations": [entry]})
    report = validate(ref, any_store, ValidateConfig(), tmp_path / "docs", suite=suite)
    assert {check.column: check.examples for check in report.failures} == {
        "row split": ("d",),
        "image width": ("a", "b"),
    }
    assert report.checks[-1].success


SCRIPT = """
import sys
from distributed import Client, LocalCluster
from tasks.data.config import PreprocessConfig, ValidateConfig
from tasks.data.storage.store import DatasetStore
from tasks.data.validation.validate import validate

if __name__ == "__main__":
    url, docs, suite = sys.argv[1:]
    store = DatasetStore(url)
    heard = []
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=2, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        report = validate(
            store.ref(store.get("pieces")), store, ValidateConfig(), docs, PreprocessConfig(), client,
            lambda done, of: heard.append((done, of)), suite,
        )
    assert "great_expectations" not in sys.modules, "it is heavy, and the workers have it"
    done = [done for done, of in heard]
    assert done == sorted(done) and heard[-1][0] == heard[-1][1], heard
    print(report.model_dump_json())
"""


def test_workers_find_the_same_and_spare_the_flow_the_library(
    store: DatasetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    version = {
        split: [
            (
                None if random.random() < 0.1 else float(random.integers(0, 60)),
                ["Bern", "Graz", None][random.integers(0, 3)],
                int(random.integers(0, 3)),
                place,
            )
            for place in range(count)
        ]
        for split, count in (("train", 300), ("test", 100))
    }
    tables = tables_of(version, list(range(50, 300, 50)))
    ref = store_tables(store, tables, Problem.TABLE_CLASSIFICATION, FEATURES, CLASSES, "buys")
    suite = json.dumps({"name": "own", "expectations": SUITE})
    here = validate(ref, store, ValidateConfig(), tmp_path / "here", PreprocessConfig(), suite=suite)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, str(script), store.url, str(tmp_path / "there"), suite],
        capture_output=True, text=True, timeout=240, check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ValidationReport.model_validate_json(ran.stdout.splitlines()[-1]) == here
    assert (tmp_path / "there" / here.docs_path).is_file()
