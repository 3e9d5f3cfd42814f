"""Table files are read alike in one piece and in chunks, and cells of text keep their letters."""

from __future__ import annotations

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.data.manifest import Feature
from tasks.data.preprocessing import typed
from tasks.data.table_files import column_names, read_chunks, read_table
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
    table = pa.table({"code": [7, None, 9, 10, 11], "size": [1.0, 2.0, None, 4.0, 5.0]})
    pq.write_table(table, sink)
    frames = list(read_chunks(sink, "codes.parquet", rows))
    whole = typed(read_table(sink, "codes.parquet"), FEATURES)
    # Without a gap in its chunk a column is of whole numbers, with one it is not: the words are the same.
    assert list(whole["code"].dropna()) == ["7", "9", "10", "11"]
    pd.testing.assert_frame_equal(
        pd.concat([typed(frame, FEATURES) for frame in frames], ignore_index=True), whole
    )
    assert column_names(sink, "codes.parquet") == ["code", "size"]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("late.csv", b"a,b\n" + b"1,2\n" * 9 + b"1,2,3\n"),
        ("nul.csv", b"a,b\n" + b"1,2\n" * 9 + b"1,\0\n"),
        ("latin.csv", b"a,b\n" + b"1,2\n" * 9 + b"1,\xe9\n"),
        ("wide.csv", b"a,b\n" + b"1,2,3\n" * 9),
        ("none.csv", b""),
        ("same.csv", b"a,a\n1,2\n"),
        ("not.parquet", b"a,b\n1,2\n"),
    ],
)
def test_a_fault_is_found_wherever_it_stands(path: str, content: bytes) -> None:
    with pytest.raises(InvalidData, match=f"The file {path} "):
        list(read_chunks(io.BytesIO(content), path, 3))
