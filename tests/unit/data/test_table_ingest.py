"""Tables of any size and kind: typed, cut into shards and shared among workers without losing a cell."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster

from tasks.data.config import IngestConfig
from tasks.data.formats import csv_files
from tasks.data.ingest import ingest
from tasks.data.layouts import layout_of, table_rows, table_spans, table_survey
from tasks.data.layouts.table_survey import Survey
from tasks.data.sources.source import opened
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, TrainyardError
from tasks.refs import Problem
from tests.helpers.table_files import NUMBER, TABLE, TEXT, Write, ingested, rows_of


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, shards and tasks so small that a few rows are cut in every way."""
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 48)
    monkeypatch.setattr(csv_files, "COLUMN_BYTES", 1)
    monkeypatch.setattr(table_spans, "SHARD_ROWS", 5)
    monkeypatch.setattr(table_rows, "SHARD_ROWS", 5)
    monkeypatch.setattr(table_spans, "RANGE_BYTES", 50)
    monkeypatch.setattr(table_survey, "RANGE_BYTES", 50)
    monkeypatch.setattr(table_survey, "TASK_BYTES", 1)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def refusal(store: DatasetStore, source: Path, problem: Problem = TABLE, **more: Any) -> str:
    with pytest.raises(TrainyardError) as caught:
        ingested(store, source, problem, **more)
    assert store.fs.find(store.root) == []
    return str(caught.value)


def many_rows(rows: int = 40) -> list[list[str]]:
    """Rows with everything that CSV has: quotes, line breaks, separators, gaps, accents."""
    names = ["plain", "two\nlines", 'a "quoted" word', "a, comma", "", "é", " space"]
    return [[str(n / 4), names[n % 7], "yes" if n % 3 else "no"] for n in range(rows)]


def as_csv(rows: list[list[str]], header: tuple[str, ...] = ("x", "name", "kind")) -> str:
    sink = io.StringIO(newline="")
    csv.writer(sink).writerows([header, *rows])
    return sink.getvalue()


def test_types_are_inferred_and_can_be_given(store: DatasetStore, write: Write) -> None:
    lines = ["n,code,word,gaps,kind", "1,007,x,,a", " 2.5,008,1,,b", "+3e1 ,009,y,,a", ".5,010,,,b"]
    source = write(data_csv="\n".join(lines))
    manifest = ingested(store, source, column_types={"code": "categorical"})
    assert {feature.name: (feature.type, feature.categories) for feature in manifest.features} == {
        "n": ("numeric", ()),
        "code": ("categorical", ("007", "008", "009", "010")),
        "word": ("categorical", ("1", "x", "y")),
        "gaps": ("numeric", ()),
    }
    rows = rows_of(store, manifest).to_pydict()
    assert rows["n"] == [1, 2.5, 30, 0.5]
    assert rows["code"] == ["007", "008", "009", "010"]
    assert rows["word"] == ["x", "1", "y", None]
    assert rows["gaps"] == [None] * 4
    assert rows["kind"] == [0, 1, 0, 1]
    assert rows["id"] == [f"data.csv#{row}" for row in range(1, 5)]


def test_a_column_is_of_words_if_the_last_row_has_one(
    store: DatasetStore, write: Write, small_parts: None
) -> None:
    numbers = "".join(f"{n},{'ab'[n % 2]}\n" for n in range(50))
    manifest = ingested(store, write(data_csv=f"x,kind\n{numbers}unknown,a\n"))
    assert manifest.features[0].type == "categorical"
    assert set(manifest.features[0].categories) == {*map(str, range(50)), "unknown"}
    assert rows_of(store, manifest)["x"].to_pylist() == [*map(str, range(50)), "unknown"]


def test_types_that_only_parquet_has(store: DatasetStore, write: Write) -> None:
    day = datetime.date(2026, 11, 21)
    table = pa.table(
        {
            "flag": [True, False, None],
            "day": [day, None, day],
            "at": pa.array([pd.Timestamp("2026-11-21 07:30")] * 3),
            "price": [decimal.Decimal("1.25"), None, decimal.Decimal("3.50")],
            "small": pa.array([1, None, 3], pa.int8()),
            "long": pa.array([2**60, None, 1], pa.int64()),
            "nan": [1.0, float("nan"), 2.0],
            "whole": [1.0, 2.0, None],
            "choice": pa.array(["p", None, "q"]).dictionary_encode(),
            "bytes": pa.array([b"ab", b"cd", None]),
            "view": pa.array(["v", "w", None], pa.string_view()),
            "digits": pa.array(["1", "2", None], pa.large_string()),
            "nothing": pa.nulls(3),
            "kind": [1.0, 0.0, 1.0],
        }
    )
    given = {"long": "categorical", "whole": "categorical"}
    manifest = ingested(store, write(data_parquet=table), column_types=given)
    types = {feature.name: feature.type for feature in manifest.features}
    numeric = {name for name, kind in types.items() if kind == "numeric"}
    assert numeric == {"price", "small", "nan", "digits", "nothing"}
    rows = rows_of(store, manifest).to_pydict()
    assert rows["flag"] == ["True", "False", None]
    assert rows["day"] == ["2026-11-21", None, "2026-11-21"]
    assert rows["at"][0] == "2026-11-21 07:30:00"
    assert rows["price"] == [1.25, None, 3.5]
    assert rows["small"] == [1, None, 3]
    assert rows["long"] == [str(2**60), None, "1"]
    assert rows["nan"] == [1, None, 2]
    assert rows["whole"] == ["1", "2", None]
    assert rows["choice"] == ["p", None, "q"]
    assert rows["bytes"] == ["ab", "cd", None]
    assert rows["view"] == ["v", "w", None]
    assert rows["digits"] == [1, 2, None]
    assert manifest.classes == ("0", "1")


def test_shards_workers_and_blocks_change_no_row(
    store: DatasetStore, write: Write, tmp_path: Path, client: Client, small_parts: None
) -> None:
    rows = many_rows()
    source = write(data_csv=as_csv(rows))
    manifest = ingested(store, source)
    found = rows_of(store, manifest)
    assert len(manifest.files) > 5
    assert all(file.rows <= 5 for file in manifest.files)
    assert found["x"].to_pylist() == [float(row[0]) for row in rows]
    assert found["name"].to_pylist() == [row[1].strip(" ") or None for row in rows]
    assert [manifest.classes[label] for label in found["kind"].to_pylist()] == [row[2] for row in rows]
    assert found["id"].to_pylist() == [f"data.csv#{row}" for row in range(1, len(rows) + 1)]
    other = DatasetStore(str(tmp_path / "other"))
    assert ingested(other, source, client=client).digest == manifest.digest


def test_row_groups_are_shared_among_workers(
    store: DatasetStore, write: Write, client: Client, small_parts: None
) -> None:
    numbers = pa.table({"x": range(30), "kind": ["a", "b", "c"] * 10})
    source = write(data_parquet=numbers)
    with opened(IngestConfig(source=str(source), problem=TABLE)) as listed:
        config = IngestConfig(source=str(source), problem=TABLE)
        partitions = layout_of(listed, config).read(listed, config).partitions
    assert [partition.shards for partition in partitions] == [1] * 8
    manifest = ingested(store, source, client=client)
    found = rows_of(store, manifest)
    assert found["x"].to_pylist() == list(range(30))
    assert found["id"].to_pylist()[-1] == "data.parquet#30"


@pytest.mark.parametrize("quoted_rows", [[], [0], [30, 31, 55], [59]])
@pytest.mark.parametrize("end", ["\n", "\r"])
def test_ranges_of_bytes_are_as_one_pass(
    store: DatasetStore, write: Write, tmp_path: Path, small_parts: None, quoted_rows: list[int], end: str
) -> None:
    """Also where a quote, and in it something that looks like a row, makes a range other than it seems."""
    names = [f"name {n % 9}" for n in range(60)]
    for row in quoted_rows:
        names[row] = f'"{row},of quotes{end}1,2,a"'
    lines = [f"{n},{names[n]},{'ab'[n % 2]}{end}" for n in range(60)]
    content = "id,name,kind" + end + "".join(lines)
    source = write(data_csv=content)
    manifest = ingested(store, source)
    found = rows_of(store, manifest)
    assert found["id"].to_pylist() == [str(n) for n in range(60)]
    assert found["name"].to_pylist() == [name.strip('"') for name in names]
    assert set(manifest.features[0].categories) == {name.strip('"') for name in names}
    other = DatasetStore(str(tmp_path / "other"))
    (source / "data.csv").write_bytes((content + f"7,again,a{end}").encode())
    words = refusal(other, source)
    assert "The column id has 1 values more than once: 7. Where: row 8 of data.csv and row 61" in words
    (source / "data.csv").write_bytes((content + f"one,more,a,b{end}").encode())
    line = 62 + len(quoted_rows)
    assert f"line {line} has 4 cells" in refusal(other, source)


def test_small_files_share_a_shard_and_keep_their_order(store: DatasetStore, write: Write) -> None:
    files = {f"part{n:03}_csv": f"x,kind\n{n},a\n{n + 0.5},b\n" for n in range(50)}
    source = write(**files, test_csv="x,kind\n99,a\n")
    manifest = ingested(store, source)
    assert [file.rows for file in manifest.files] == [100, 1]
    found = rows_of(store, manifest)
    assert found["x"].to_pylist() == [n / 2 for n in range(100)]
    assert found["id"].to_pylist()[2:4] == ["part001.csv#1", "part001.csv#2"]
    with opened(IngestConfig(source=str(source), problem=TABLE)) as listed:
        config = IngestConfig(source=str(source), problem=TABLE)
        partition = layout_of(listed, config).read(listed, config).partitions[0]
    halves = partition.halved()
    assert [len(half.names()) for half in halves] == [25, 25]
    joined = pa.concat_tables(rows.table for half in halves for rows in half.read())
    assert joined.equals(found.replace_schema_metadata(joined.schema.metadata))
    while partition.halved():
        partition = partition.halved()[0]
    assert list(partition.names()) == ["part000.csv"]


@pytest.mark.parametrize(
    ("paths", "splits"),
    [
        (("train_csv", "val_csv", "test_csv"), {"train": 2, "validation": 2, "test": 2}),
        (("train__a_csv", "valid__a_csv", "test__a_csv"), {"train": 2, "validation": 2, "test": 2}),
        (("data__train-00000-of-00001_csv", "data__test-00000-of-00001_csv"), {"train": 2, "test": 2}),
        (("a_csv", "tests_csv"), {"train": 4}),
    ],
)
def test_names_of_files_and_folders_are_splits(
    store: DatasetStore, write: Write, paths: tuple[str, ...], splits: dict[str, int]
) -> None:
    source = write(**dict.fromkeys(paths, "x,kind\n1,a\n2,b\n"))
    assert ingested(store, source).splits == splits


def test_integer_labels_keep_their_names(store: DatasetStore, write: Write) -> None:
    source = write(data_csv="x,kind\n1,0\n2,1.0\n3,\n", label__names_json="")
    (source / "label" / "names.json").unlink()
    (source / "label_names.json").write_text('{"0": "cat", "1": "dog", "2": "owl"}')
    manifest = ingested(store, source)
    assert manifest.classes == ("cat", "dog", "owl")
    assert rows_of(store, manifest)["kind"].to_pylist() == [0, 1, None]
    assert manifest.unlabelled == 1
    named = ingested(store, source, label_names=("no", "yes"))
    assert named.classes == ("no", "yes")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a_csv": "x,kind\n"}, "The file a.csv has no rows"),
        (
            {"a_parquet": pa.table({"x": pa.array([], pa.int8()), "kind": []})},
            "The file a.parquet has no rows",
        ),
        (
            {"a_csv": "x,kind\n1,a\n", "b_csv": "x,kind\n1,b\ninf,b\n"},
            "The column x holds 'inf', which is not a finite number. Where: row 2 of b.csv",
        ),
        ({"a_csv": "x,kind\n1e400,a\n1,b\n"}, "holds '1e400', which is not a finite number"),
        (
            {"a_parquet": pa.table({"x": [1.0, float("-inf")], "kind": ["a", "b"]})},
            "The column x holds '-inf', which is not a finite number. Where: row 2 of a.parquet",
        ),
        ({"a_csv": "x,kind\n1,\n2,NA\n"}, "No row has a label: the column kind is empty"),
        ({"a_parquet": pa.table({"x": [1, 2], "kind": ["", None]})}, "No row has a label"),
        ({"a_csv": "x,kind\n1,a\n2,a\n"}, "one label only, a"),
        ({"a_csv": "kind\na\nb\n"}, "no column to learn from"),
        (
            {"a_csv": "x,kind\n1,a\n2,b\n", "b_csv": "kind,x\na,1\n"},
            "The columns of b.csv are not those of a.csv. Where: the order of the columns",
        ),
        (
            {"a_csv": "id,x,kind\n7,1,a\n", "b_csv": "id,x,kind\n8,1,a\n7,2,b\n"},
            "The column id has 1 values more than once: 7. Where: row 1 of a.csv and row 2 of b.csv",
        ),
        ({"a_csv": "id,x,kind\n7,1,a\n,1,b\n"}, "The column id has missing values. Where: row 2 of a.csv"),
        (
            {"a_parquet": pa.table({"x": [b"\xff\xfe", b"a"], "kind": ["a", "b"]})},
            "The column x of a.parquet holds bytes that are no text",
        ),
        (
            {"a_csv": "x,kind\n1,a\n2,b\n", "trainyard_columns_json": "{}"},
            "trainyard_columns.json does not describe columns",
        ),
        (
            {
                "a_csv": "x,kind\n1,a\n2,b\n",
                "trainyard_columns_json": '{"label": "gone", "types": {"gone too": "numeric"}}',
            },
            "There is no column gone. Allowed: x, kind",
        ),
    ],
)
def test_refusals_name_file_row_and_column(
    store: DatasetStore, write: Write, files: dict[str, Any], words: str
) -> None:
    assert words in refusal(store, write(**files))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("x" * 100_000_000 + ",a", "line 3 is longer than 8 MiB"),
        ('"' + "x,a\n" * 20_000_000, "row that begins in line 3 is longer than 8 MiB, or its quote is never"),
    ],
)
def test_a_line_of_100_megabytes(store: DatasetStore, write: Write, row: str, words: str) -> None:
    assert words in refusal(store, write(data_csv=f"x,kind\n1,a\n{row}\n2,b\n"))


def test_a_word_among_numbers_that_are_asked_for(
    store: DatasetStore, write: Write, small_parts: None
) -> None:
    source = write(data_csv="x,kind\n" + "1,2\n" * 40 + "many,3\n" + "1,few\n")
    words = refusal(store, source, column_types={"x": "numeric"})
    assert "The column x holds 'many', which is not a finite number. Where: row 41 of data.csv" in words
    assert "The column kind holds 'few'" in refusal(store, source, NUMBER)


def test_a_label_of_too_many_kinds_is_no_class(store: DatasetStore, write: Write) -> None:
    source = write(data_csv="x,kind\n" + "".join(f"1,{n}.5\n" for n in range(10_001)))
    words = refusal(store, source)
    assert "The column kind has more than 10,000 different labels" in words
    assert "for numbers, table-regression" in words
    assert ingested(store, source, NUMBER).classes == ()


def test_a_file_that_changes_between_the_passes_is_refused(write: Write, small_parts: None) -> None:
    source = write(data_csv=as_csv(many_rows()))
    config = IngestConfig(source=str(source), problem=TABLE)
    with opened(config) as listed:
        partitions = layout_of(listed, config).read(listed, config).partitions
        content = (source / "data.csv").read_text()
        (source / "data.csv").write_text(content.replace("yes", "you").replace("no", "yes\n1,1,no"))
        with pytest.raises(TrainyardError, match=r"The file data\.csv (changed while|cannot be read as CSV)"):
            [rows for partition in partitions for rows in partition.read()]


def test_ids_of_one_hash_are_still_two(write: Write) -> None:
    """A survey that holds one hash twice, of rows whose ids differ, refuses nothing."""
    from tasks.data.layouts.table_source import files_of, refuse_repeated_ids

    source = write(data_csv="id,x\na,1\nb,2\n")
    with opened(IngestConfig(source=str(source / "data.csv"), problem=TABLE)) as listed:
        files = files_of(listed, ["data.csv"], None)
        measures = {"id": table_survey.Measure()}
        survey = table_survey.surveyed(files, listed, ["data.csv"], measures, "id", None)
    assert survey.ids is not None
    same = Survey(survey.spans, survey.columns, np.repeat(survey.ids[:1], 2))
    refuse_repeated_ids(same, files, "id")


REVIEWS = [("great, really", "good"), ('"bad"\nfilm', "bad"), ("=1+1", "good"), ("-", "bad"), ("", "good")]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_texts_in_a_table(store: DatasetStore, write: Write, suffix: str) -> None:
    texts, labels = zip(*REVIEWS, strict=True)
    columns = {"stars": ["5"] * 5, "review": texts, "mood": labels}
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    content: Any = as_csv(rows, tuple(columns)) if suffix == "csv" else pa.table(columns)
    source = write(**{f"train_{suffix}": content})
    assert "There is no column text. Allowed: stars, review, mood" in refusal(store, source, TEXT)
    manifest = ingested(store, source, TEXT, text_column="review")
    assert [(feature.name, feature.type) for feature in manifest.features] == [("text", "text")]
    assert (manifest.label, manifest.classes) == ("label", ("bad", "good"))
    found = rows_of(store, manifest)
    assert found.column_names == ["id", "text", "label"]
    assert [text or "" for text in found["text"].to_pylist()] == list(texts)
    assert found["label"].to_pylist() == [1, 0, 1, 0, 1]


def test_numbers_are_read_as_the_endpoint_reads_them(store: DatasetStore, write: Write) -> None:
    """The same text is the same float64 here, in pandas and in Python."""
    numbers = [
        repr(float(x)) for x in np.random.default_rng(0).normal(size=500) * 10.0 ** np.arange(-250, 250)
    ]
    manifest = ingested(store, write(data_csv=as_csv([[x, "w", "ab"[n % 2]] for n, x in enumerate(numbers)])))
    found = rows_of(store, manifest)["x"].to_numpy()
    assert found.tolist() == [float(x) for x in numbers] == pd.to_numeric(pd.Series(numbers)).tolist()


def test_tables_in_an_object_store(
    store: DatasetStore, write: Write, s3: dict[str, Any], tmp_path: Path, small_parts: None
) -> None:
    import s3fs

    rows = many_rows()
    table = pa.table(dict(zip(("x", "name", "kind"), zip(*rows, strict=True), strict=True)))
    source = write(train_csv=as_csv(rows))
    pq.write_table(table, source / "test.parquet")
    server = s3fs.S3FileSystem(**s3)
    server.mkdir("tables")
    server.put(str(source), "tables/rows", recursive=True)
    config = IngestConfig(source="s3://tables/rows", name="rows", problem=TABLE)
    with opened(config, s3) as listed:
        remote = store.open(ingest(config, store, source=listed))
    assert remote.splits == {"train": 40, "test": 40}
    local = ingested(DatasetStore(str(tmp_path / "local")), source)
    assert remote.files == local.files


def test_decimal_commas_are_not_taken_for_words(tmp_path: Path) -> None:
    path = tmp_path / "europe.csv"
    path.write_text("bmi;age;kind\n" + "".join(f"0,0{n};{n};{'ab'[n % 2]}\n" for n in range(10, 40)))
    config = IngestConfig(source=str(path), name="europe", problem=Problem.TABLE_CLASSIFICATION)
    store = DatasetStore(str(tmp_path / "store"))
    with pytest.raises(InvalidData, match="bmi holds numbers with a decimal comma, such as 0,010"):
        ingest(config, store)
    named = config.model_copy(update={"column_types": {"bmi": "categorical"}})
    assert store.open(ingest(named, store)).features[0].type == "categorical"
    with pytest.raises(InvalidData, match="with a point, as in"):
        ingest(config.model_copy(update={"problem": Problem.TABLE_REGRESSION, "label": "bmi"}), store)
