"""Table files and their spans: what a worker reads by itself, and where shards are cut."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from tasks.data.formats.csv_blocks import CsvRange
from tasks.data.formats.csv_cells import freed_cell, freed_column
from tasks.data.formats.csv_files import CsvFile
from tasks.data.formats.table_files import csv_file, is_parquet, parquet_file, read_batches
from tasks.data.listed import listed
from tasks.data.sources.source import Reader
from tasks.errors import InvalidData

SHARD_ROWS = 65_536
SHARD_BYTES = 32 * 2**20
"""A worker holds the rows of one shard."""

RANGE_BYTES = 32 * 2**20
"""Larger files are read in ranges of this size: of row groups, or of bytes."""


@dataclass(frozen=True)
class FileSpan:
    """Rows that a worker can read by themselves.

    Attributes:
        path: The file.
        rows: How many rows these are.
        cuts: Rows of each of the shards that they would make.
        bytes: About their size in memory.
        first_row: Rows of the file before them.
        range: Where in the file they are; None for all of it.
    """

    path: str
    rows: int = 0
    cuts: tuple[int, ...] = ()
    bytes: int = 0
    first_row: int = 0
    range: CsvRange | tuple[int, ...] | None = None

    def moved(self, rows: int, lines: int) -> FileSpan:
        """The same further on in a text file, after so many rows and lines."""
        assert isinstance(self.range, CsvRange)
        where = replace(self.range, line=self.range.line + lines)
        return replace(self, first_row=self.first_row + rows, range=where)


@dataclass(frozen=True)
class Files:
    """Table files that are read alike.

    Attributes:
        reader: Reads them on any process.
        first: The file whose columns all must have.
        columns: These columns, in order.
        escaped: Whether cells of text files are escaped against spreadsheets, and are to be freed of it.
    """

    reader: Reader
    first: str
    columns: tuple[str, ...]
    escaped: bool = False

    def batches(self, span: FileSpan, wanted: Sequence[str]) -> Iterator[pa.Table]:
        """These columns of the rows of a span, a few megabytes at a time."""
        with self.reader.open(span.path) as file:
            if is_parquet(span.path):
                yield from read_batches(file, span.path, wanted, span.range)  # type: ignore[arg-type]
                return
            assert not isinstance(span.range, tuple)
            for table in csv_file(file, span.path, span.range).tables():
                yield self.cells(table, wanted)

    def cells(self, table: pa.Table, wanted: Sequence[str]) -> pa.Table:
        """These columns of rows of a text file, by their own names and without escapes."""
        table = table.rename_columns(list(self.columns)).select(list(wanted))
        if not self.escaped:
            return table
        return pa.table([freed_column(column) for column in table.columns], names=list(wanted))


def row_group_ranges(reader: Reader, path: str) -> list[FileSpan]:
    """Spans of a Parquet file."""
    with reader.open(path) as file:
        metadata = parquet_file(file, path).metadata
    spans: list[FileSpan] = []
    groups: list[int] = []
    first = rows = size = 0
    for group in range(metadata.num_row_groups):
        about = metadata.row_group(group)
        groups.append(group)
        rows += about.num_rows
        size += about.total_byte_size
        if size >= RANGE_BYTES or group == metadata.num_row_groups - 1:
            spans.append(FileSpan(path, first_row=first, range=tuple(groups)))
            first, rows, size, groups = first + rows, 0, 0, []
    return spans


def byte_ranges(files: Files, path: str, size: int) -> list[FileSpan]:
    """Spans of a text file, of which all but the first may begin in the middle of a line.

    Their rows and lines are counted from where they begin: what comes before it is not known yet.
    """
    with files.reader.open(path) as file:
        text = csv_file(file, path)
    check_columns(files, text.names, path)
    begun = text.rest
    starts = [begun.start, *range(begun.start + RANGE_BYTES, size, RANGE_BYTES)]
    ends = [*starts[1:], sys.maxsize]
    ranges = [replace(begun, line=1, start=start, end=end) for start, end in zip(starts, ends, strict=True)]
    ranges[0] = replace(ranges[0], line=begun.line)
    return [FileSpan(path, range=one) for one in ranges]


def check_columns(files: Files, found: Sequence[str], path: str) -> None:
    """Refuse a file with other columns than the first one, given the names as the file writes them."""
    if files.escaped and not is_parquet(path):
        found = [freed_cell(name) for name in found]
    if list(found) == list(files.columns):
        return
    odd = set(found) ^ set(files.columns)
    raise InvalidData(
        f"The columns of {path} are not those of {files.first}",
        where=listed(sorted(odd)) if odd else "the order of the columns",
        mend="give every file the same columns in the same order",
    )


class Cutter:
    """Cuts a file into shards, where one batch of rows ends and another begins.

    A text file becomes a span for each shard, which can be read from there on; so workers share it.
    """

    def __init__(self, span: FileSpan, text: CsvFile | None) -> None:
        self._span = span
        self._text = text
        self._begun = text.rest if text else None
        self._spans: list[FileSpan] = []
        self._cuts: list[int] = []
        self._before = self._begun
        self._rows = self._bytes = 0

    def add(self, table: pa.Table) -> None:
        rows, size = table.num_rows, table.nbytes
        if self._rows and (self._rows + rows > SHARD_ROWS or self._bytes + size > SHARD_BYTES):
            self._cut()
        self._rows += rows
        self._bytes += size
        self._before = self._text.rest if self._text else None

    def spans(self) -> tuple[FileSpan, ...]:
        if self._rows:
            self._cut()
        return tuple(self._spans)

    def _cut(self) -> None:
        if self._begun is None or self._before is None:
            earlier = self._spans.pop() if self._spans else self._span
            grown = replace(
                earlier,
                rows=earlier.rows + self._rows,
                cuts=(*earlier.cuts, self._rows),
                bytes=earlier.bytes + self._bytes,
            )
            self._spans.append(grown)
        else:
            first = self._span.first_row + sum(span.rows for span in self._spans)
            where = replace(self._begun, end=self._before.start)
            self._spans.append(
                FileSpan(self._span.path, self._rows, (self._rows,), self._bytes, first, where)
            )
            self._begun = self._before
        self._rows = self._bytes = 0
