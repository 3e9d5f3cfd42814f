"""Reading of table files, one way for all: what ingest reads and what batch inference reads are alike.

Cells of text files stay text, so that a code such as 007 keeps its zeros; `preprocessing.typed` makes
numbers and words of them by the features of the dataset version. No file is in memory as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.data.formats.csv_blocks import COLUMN_BYTES, MOST_BLOCK_BYTES, CsvRange
from tasks.data.formats.csv_files import CsvFile, empty
from tasks.data.listed import listed
from tasks.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
"""Endings of the files that are read, in lower case."""

BATCH_BYTES = 8 * 2**20
BATCH_ROWS = 16_384
"""Rows of a Parquet file that are read at once, at most, and their size."""


def read_table(file: IO[bytes], path: str) -> pd.DataFrame:
    """A whole file; the errors are those of `read_chunks`."""
    return next(read_chunks(file, path, None))


def read_chunks(file: IO[bytes], path: str, rows: int | None) -> Iterator[pd.DataFrame]:
    """The rows of a file in order, some at a time.

    Args:
        file: The open file; it must be seekable.
        path: Its name, which is in errors and whose ending says the format.
        rows: Rows of a frame, the last of which may be shorter; None for all of them in one frame.

    Yields:
        Frames with the file's columns, one at least. Cells of text files are strings, NaN for missing.

    Raises:
        InvalidData: This is no such file, or columns have no name of their own.
    """
    tables = read_batches(file, path)
    begun = False
    for table in divided(tables, repeat(rows) if rows else ()):
        begun = True
        # Whole numbers beside a gap stay whole: as floats, long codes would lose digits.
        yield table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    if not begun:
        file.seek(0)
        yield empty(column_names(file, path)).to_pandas()


def column_names(file: IO[bytes], path: str) -> list[str]:
    """Names of a file's columns, without reading its rows; the errors are those of `read_chunks`."""
    if is_parquet(path):
        return list(parquet_file(file, path).schema_arrow.names)
    return csv_file(file, path).names


def is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")


def read_batches(
    file: IO[bytes],
    path: str,
    columns: Sequence[str] | None = None,
    part: CsvRange | Sequence[int] | None = None,
) -> Iterator[pa.Table]:
    """The rows of a file in order, a few megabytes at a time; none if it has no rows.

    Args:
        file: The open file.
        path: Its name, which is in errors and whose ending says the format.
        columns: Only these; None for all.
        part: Only these rows of a text file, or these row groups of a Parquet file; None for all.

    Raises:
        InvalidData: As `read_chunks`.
    """
    if not is_parquet(path):
        assert part is None or isinstance(part, CsvRange)
        for table in csv_file(file, path, part).tables():
            yield table.select(columns) if columns is not None else table
        return
    parquet = parquet_file(file, path)
    assert not isinstance(part, CsvRange)
    groups = list(range(parquet.num_row_groups) if part is None else part)
    sizes = [parquet.metadata.row_group(group) for group in groups]
    count = sum(size.num_rows for size in sizes)
    row_bytes = sum(size.total_byte_size for size in sizes) // max(1, count)
    most_bytes = max(BATCH_BYTES, min(COLUMN_BYTES * parquet.metadata.num_columns, MOST_BLOCK_BYTES))
    try:
        for batch in parquet.iter_batches(
            batch_size=max(1, min(BATCH_ROWS, most_bytes // max(1, row_bytes))),
            row_groups=groups,
            columns=columns,
            use_threads=False,
        ):
            if batch.num_rows:
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidData(f"The file {path} is damaged: {error}", mend="write the file again") from None


def divided(tables: Iterable[pa.Table], sizes: Iterable[int]) -> Iterator[pa.Table]:
    """The same rows in tables of these sizes; what is left over makes a last one."""
    wanted = iter(sizes)
    size = next(wanted, None)
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        while size is not None and rows >= size:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, size)
            waiting, rows = [joined.slice(size)], rows - size
            size = next(wanted, None)
    if rows:
        yield pa.concat_tables(waiting)


def parquet_file(file: IO[bytes], path: str) -> pq.ParquetFile:
    """The open file; the errors are those of `read_chunks`."""
    try:
        # Pages as they are needed: whole row groups would lie in memory twice.
        table_file = pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidData(f"The file {path} is not a Parquet file: {error}") from None
    schema = table_file.schema_arrow
    _check_names(schema.names, path)
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if nested:
        raise InvalidData(
            f"Columns of {path} hold lists or structures: {listed(nested)}",
            allowed="numbers, words, dates and booleans",
            mend="leave these columns out of the file",
        )
    return table_file


def csv_file(file: IO[bytes], path: str, part: CsvRange | None = None) -> CsvFile:
    """The open file; the errors are those of `read_chunks`."""
    table_file = CsvFile(file, path, part)
    _check_names(table_file.names, path)
    return table_file


def _check_names(names: list[str], path: str) -> None:
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated or not all(names):
        what = f"columns of one name: {listed(repeated)}" if repeated else "a column without a name"
        raise InvalidData(
            f"The file {path} has {what}",
            where="the header row",
            mend="give every column a name of its own",
        )
