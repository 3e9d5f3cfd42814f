"""Table files are read alike in one piece and in chunks, cells keep their letters, faults are named."""

from __future__ import annotations

import csv
import io
import tracemalloc

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.data.formats import csv_blocks, csv_files
from tasks.data.formats.csv_blocks import CsvRange
from tasks.data.formats.csv_cells import escaped_cell, escaped_column, freed_cell, freed_column
from tasks.data.formats.csv_files import CsvFile
from tasks.data.formats.table_files import column_names, read_batches, read_chunks, read_table
from tasks.data.manifest import Feature
from tasks.data.preparation.preprocessing import typed
from tasks.errors import InvalidData

ROWS = 11
TEXT = (
    'code; "a ""quoted""\nname";size\r\n'
    + "".join(f"00{n};x;{n}.50\r\n" for n in range(ROWS - 1))
    + "NA;;3\r\n"
)
FEATURES = (Feature(name="code", type="categorical"), Feature(name="size", type="numeric"))


@pytest.mark.parametrize("rows", [1, 4, ROWS, 100])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_codes_keep_their_zeros_however_many_rows_come_at_once(rows: int, mark: str) -> None:
    content = (mark + TEXT).encode()
    frames = list(read_chunks(io.BytesIO(content), "codes.csv", rows))
    assert [len(frame) for frame in frames][:-1] == [rows] * (len(frames) - 1)
    whole = read_table(io.BytesIO(content), "codes.csv")
    pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), whole)
    assert list(whole["code"][:2]) == ["000", "001"]
    assert whole["code"].isna().sum() == 1
    assert list(whole.columns) == column_names(io.BytesIO(content), "codes.csv")
    assert whole.columns[0] == "code"
    features = pd.concat([typed(frame, FEATURES) for frame in frames], ignore_index=True)
    pd.testing.assert_frame_equal(features, typed(whole, FEATURES))
    assert features["size"].dtype == "float64"


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_parquet_in_chunks(rows: int) -> None:
    sink = io.BytesIO()
    long_code = 2**53 + 1  # as a float, which a gap would make of it, it is another number
    table = pa.table({"code": [7, None, 9, 10, long_code], "size": [1.0, 2.0, None, 4.0, 5.0]})
    pq.write_table(table, sink)
    frames = list(read_chunks(sink, "codes.parquet", rows))
    whole = typed(read_table(sink, "codes.parquet"), FEATURES)
    # Without a gap in its chunk a column is of whole numbers, with one it is not: the words are the same.
    assert list(whole["code"].dropna()) == ["7", "9", "10", str(long_code)]
    pd.testing.assert_frame_equal(
        pd.concat([typed(frame, FEATURES) for frame in frames], ignore_index=True), whole
    )
    assert column_names(sink, "codes.parquet") == ["code", "size"]


GOOD = b"a,b\n" + b"1,2\n" * 9


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("late.csv", GOOD + b"1,2,3\n", "line 11 has 3 cells, the header has 2"),
        ("short.csv", GOOD + b"1\n" + GOOD[4:], "line 11 has 1 cells, the header has 2"),
        ("wide.csv", b"a,b\n" + b"1,2,3\n" * 9, "line 2 has 3 cells"),
        ("quoted-short.csv", GOOD + b'"1"\n', "line 11 has 1 cells"),
        ("nul.csv", GOOD + b"1,\0\n", "NUL characters, the first in line 11"),
        ("latin.csv", GOOD + b"1,\xe9\n", r"line 11 is not UTF-8 \(byte 0xe9\)"),
        ("latin-quoted.csv", GOOD + b'1,"\xe9"\n', "line 11 is not UTF-8"),
        ("none.csv", b"", "it is empty"),
        ("mark.csv", b"\xef\xbb\xbf", "it is empty"),
        ("blank.csv", b"\n\n  \n", "it is empty"),
        ("same.csv", b"a,a\n1,2\n", "has columns of one name: a"),
        ("nameless.csv", b"a,,b\n1,2,3\n", "has a column without a name"),
        ("open.csv", GOOD + b'1,"x\n2,y\n', "the quote that is opened in line 11 is never closed"),
        ("open-header.csv", b'a,"b\n1,2\n', "the quote that is opened in line 1 is never closed"),
        ("open-between.csv", GOOD + b'1,"x\n2,"y"\n', "in line 12 text follows a closing quote"),
        ("backslash.csv", GOOD + b'1,"say \\"x\\""\n', "write a quote inside a quoted cell twice"),
        ("utf-16.csv", "a,b\n1,x\n".encode("utf-16"), "in UTF-16 or UTF-32.* To mend: save it as UTF-8"),
        ("bare-utf-16.csv", "a,b\n1,x\n".encode("utf-16-le"), "in UTF-16 or UTF-32"),
        ("utf-32.csv", "a,b\n1,x\n".encode("utf-32"), "in UTF-16 or UTF-32"),
        ("not.parquet", GOOD, "is not a Parquet file"),
    ],
)
@pytest.mark.parametrize("block_bytes", [5, 16, 2**20])
def test_a_fault_is_found_and_named_wherever_it_stands(
    path: str, content: bytes, words: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(csv_files, "COLUMN_BYTES", 1)
    if block_bytes == 5 and "utf-" in path:
        pytest.skip("five bytes do not tell an encoding")
    with pytest.raises(InvalidData, match=f"The file {path} .*{words}"):
        list(read_chunks(io.BytesIO(content), path, 3))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,2\n" + b"x" * 100_000_000 + b",2\n", "line 3 is longer than 8 MiB"),
        (b'a,b\n1,2\n1,"' + b"some text\n" * 10_000_000, "row that begins in line 3 is longer than 8 MiB"),
        (b"x" * 100_000_000, "line 1 is longer than 8 MiB"),
    ],
)
def test_a_line_of_100_megabytes_is_refused_without_being_held(content: bytes, words: str) -> None:
    file = io.BytesIO(content)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidData, match=words):
            list(read_chunks(file, "long.csv", 100))
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_lines_without_anything_are_no_rows() -> None:
    for gap in (b"\n", b"   \n", b"\r\n"):
        content = gap + b"a,b\n1,2\n" + gap + b'3,"4"\n' + gap + b"5,6\n" + gap
        frame = read_table(io.BytesIO(content), "gaps.csv")
        assert frame.to_numpy().tolist() == [["1", "2"], ["3", "4"], ["5", "6"]]


def test_spaces_before_cells_are_no_part_of_them() -> None:
    content = b'a, b, "c"\n 1, x y, NA\n2, "x, y",  z\n'
    frame = read_table(io.BytesIO(content), "spaces.csv")
    assert list(frame.columns) == ["a", "b", "c"]
    assert frame["b"].tolist() == ["x y", "x, y"]
    assert frame["c"].isna().tolist() == [True, False]
    assert frame["a"].tolist() == ["1", "2"]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("x.csv", b"a;b\n1,5;2\n"),
        ("x.csv", b"a|b\n1,5|2\n"),
        ("x.csv", b"\xef\xbb\xbfsep=;\r\na, with, commas;b\r\n1,5;2\r\n"),
        ("x.csv", b'"a, with, commas";b\n"1,5";2\n'),
        ("x.tsv", b"a, and more\tb\n1,5\t2\n"),
    ],
)
def test_the_delimiter_is_found(path: str, content: bytes) -> None:
    assert read_table(io.BytesIO(content), path).to_numpy().tolist() == [["1,5", "2"]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_may_end_as_on_any_system(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 7)
    monkeypatch.setattr(csv_files, "COLUMN_BYTES", 1)
    content = end.join(["a,b", "1,2", '3,"4"', "5,6"]).encode()
    assert read_table(io.BytesIO(content), "x.csv").to_numpy().tolist() == [
        ["1", "2"],
        ["3", "4"],
        ["5", "6"],
    ]


def test_a_header_alone_is_a_frame_without_rows() -> None:
    frame = read_table(io.BytesIO(b"a,b\n"), "x.csv")
    assert (list(frame.columns), len(frame)) == (["a", "b"], 0)


PARTS = [*"ab1.\"',; é-=\t", "\n", "\r\n"]
CELLS = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=12),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    block_bytes=st.sampled_from([3, 16, 64, 2**20]),
)
def test_any_table_reads_as_pandas_reads_it_and_each_part_by_itself(
    rows: list[list[str]], quoting: int, end: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(csv_files, "COLUMN_BYTES", 1)
    sink = io.StringIO(newline="")
    csv.writer(sink, lineterminator=end, quoting=quoting).writerows([["x", "y"], *rows])
    content = sink.getvalue().encode()
    expected = pd.read_csv(io.BytesIO(content), dtype="str", skipinitialspace=True).to_numpy(object)
    file = CsvFile(io.BytesIO(content), "t.csv")
    tables, marks = [], [file.rest]
    for table in file.tables():
        tables.append(table)
        marks.append(file.rest)
    whole = pa.concat_tables(tables).to_pandas() if tables else pd.DataFrame()
    assert whole.astype(object).where(whole.notna(), None).to_numpy().tolist() == [
        [None if pd.isna(cell) else cell for cell in row] for row in expected
    ]
    for table, start, after in zip(tables, marks, marks[1:], strict=False):
        part = CsvRange(start.names, start.delimiter, start.line, start.start, after.start)
        again = list(read_batches(io.BytesIO(content), "t.csv", part=part))
        assert pa.concat_tables(again).to_pydict() == table.to_pydict()


@example(cells=["-1\n"])
@given(
    cells=st.lists(
        st.one_of(st.none(), st.text(st.sampled_from("'=+-@\t\r\n 1.e5x＝"), max_size=5)), min_size=1
    )
)
def test_escaped_cells_run_nowhere_and_come_back(cells: list[str | None]) -> None:
    column = pa.chunked_array([pa.array(cells, pa.string())])
    escaped = escaped_column(column)
    assert freed_column(escaped).to_pylist() == cells
    for cell, safe in zip(cells, escaped.to_pylist(), strict=True):
        if cell is None or safe is None:
            assert cell is safe
            continue
        assert safe == escaped_cell(cell)
        assert freed_cell(safe) == cell
        if safe.lstrip(" ")[:1] in set("=+-@\t\r\n＝"):
            assert safe.lstrip(" ") == "" or float(safe) is not None  # a number is no formula


def test_what_is_escaped() -> None:
    for cell in ('=cmd|"/c calc"!A0', "@SUM(1)", "+1+1", "-2+3", "\t=1", " =1", "'=1", "-", "＝1"):
        assert escaped_cell(cell) == f"'{cell}"
    for cell in ("-5", "+1.5e-3", "a=1", "", "'quoted'", "1-2", "-.5"):
        assert escaped_cell(cell) == cell
