"""Reading of table files, one way for all: what ingest reads and what batch inference reads are alike.

Cells of text files stay text, so that a code such as 007 keeps its zeros; `preprocessing.typed` makes
numbers and words of them by the features of the dataset version.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import IO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.data.listed import listed
from tasks.errors import InvalidData

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
"""Endings of the files that are read, in lower case."""


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
        Frames with the file's columns. Cells of text files are strings, NaN for missing.

    Raises:
        InvalidData: This is no such file, or columns have no name of their own.
    """
    if not path.lower().endswith(".parquet"):
        yield from _read_text(file, path, rows)
        return
    table_file = _parquet(file, path)
    try:
        if rows is None:
            yield table_file.read().to_pandas(ignore_metadata=True)
            return
        for batch in table_file.iter_batches(batch_size=rows):
            yield batch.to_pandas(ignore_metadata=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidData(f"The file {path} is damaged: {error}", mend="write the file again") from None


def column_names(file: IO[bytes], path: str) -> list[str]:
    """Names of a file's columns, without reading its rows; the errors are those of `read_chunks`."""
    if path.lower().endswith(".parquet"):
        return list(_parquet(file, path).schema_arrow.names)
    try:
        return _header(_Text(file))[0]
    except (ValueError, csv.Error) as error:
        raise _not_text(path, error) from None


class _Text(io.TextIOWrapper):
    """UTF-8 text as pandas reads it, block by block; refuses NUL, at which readers differ."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8-sig", newline="")

    def read(self, size: int | None = -1) -> str:
        text = super().read(size)
        if "\0" in text:
            raise ValueError("it holds NUL characters")
        return text


def _header(text: _Text) -> tuple[list[str], str]:
    """Column names and the delimiter, which is the commonest sign of the first line."""
    delimiter = max(",;\t", key=text.readline().count)
    text.seek(0)
    header = next((line for line in csv.reader(text, delimiter=delimiter, skipinitialspace=True) if line), [])
    text.seek(0)
    return [name.strip() for name in header], delimiter


def _read_text(file: IO[bytes], path: str, rows: int | None) -> Iterator[pd.DataFrame]:
    text = _Text(file)
    try:
        header, delimiter = _header(text)
        read = pd.read_csv(
            text,
            sep=delimiter,
            dtype="str",
            skipinitialspace=True,
            low_memory=False,
            chunksize=rows,
        )
        _check_names(header, path)
        for frame in [read] if isinstance(read, pd.DataFrame) else read:
            if not isinstance(frame.index, pd.RangeIndex):
                raise ValueError(f"rows have more cells than the header, which has {len(header)}")
            frame.columns = pd.Index(header)
            yield frame.reset_index(drop=True)
    except (ValueError, csv.Error) as error:
        raise _not_text(path, error) from None
    finally:
        if not text.closed:
            text.detach()  # the caller closes the file


def _not_text(path: str, error: Exception) -> InvalidData:
    return InvalidData(
        f"The file {path} cannot be read as CSV: {str(error).splitlines()[0]}",
        allowed="UTF-8, a header row, and as many cells in every row",
        mend="open the file in an editor at the place named and correct it",
    )


def _parquet(file: IO[bytes], path: str) -> pq.ParquetFile:
    try:
        table_file = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
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


def _check_names(names: list[str], path: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not all(names):
        what = f"columns of one name: {listed(repeated)}" if repeated else "a column without a name"
        raise InvalidData(
            f"The file {path} has {what}",
            where="the header row",
            mend="give every column a name of its own",
        )
