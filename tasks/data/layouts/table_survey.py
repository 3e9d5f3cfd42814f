"""The first pass over table files: what their columns hold, and where shards are cut.

Each worker keeps of its files no more than a few names a column and, where rows have ids, a hash of each.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.formats.csv_blocks import CsvRange, NotPlainError, line_start
from tasks.data.formats.csv_files import CsvFile
from tasks.data.formats.table_files import csv_file, is_parquet, parquet_file, read_batches
from tasks.data.layouts.table_spans import (
    RANGE_BYTES,
    Cutter,
    Files,
    FileSpan,
    byte_ranges,
    check_columns,
    row_group_ranges,
)
from tasks.data.layouts.table_values import (
    as_numbers,
    as_words,
    first_missing,
    is_number_type,
    never_numbers,
    plain,
)
from tasks.data.partitions import map_partitions
from tasks.data.sources.source import Source
from tasks.errors import InvalidData

if TYPE_CHECKING:
    from distributed import Client

TASK_BYTES = 16 * 2**20
"""Small files are looked at together, this much at once."""


@dataclass(frozen=True)
class Measure:
    """What to find out about a column.

    Attributes:
        numbers: Whether its values are numbers.
        most_values: List the different values if they are not more than this; 0 for not at all.
    """

    numbers: bool = False
    most_values: int = 0


@dataclass(frozen=True)
class Place:
    """A value that was found: file, row of the file from 1, and the value as text."""

    path: str
    row: int
    value: str


@dataclass
class Column:
    """What was seen of a column.

    Attributes:
        missing: Rows without a value.
        first_missing: The first of them.
        word: The first value that is no number.
        infinite: The first number that is not finite.
        categories: Whether it holds booleans or dates, which are categories.
        values: The different values; None if they are too many, or nobody asked.
    """

    missing: int = 0
    first_missing: Place | None = None
    word: Place | None = None
    infinite: Place | None = None
    categories: bool = False
    values: set[str] | None = field(default_factory=set)

    def moved(self, rows: int) -> Column:
        """The same after so many rows of its file."""
        places = {
            name: replace(place, row=place.row + rows)
            for name in ("first_missing", "word", "infinite")
            if (place := getattr(self, name)) is not None
        }
        return replace(self, **places)

    def add(self, other: Column, most_values: int) -> None:
        """What was seen further on."""
        self.missing += other.missing
        self.first_missing = self.first_missing or other.first_missing
        self.word = self.word or other.word
        self.infinite = self.infinite or other.infinite
        self.categories = self.categories or other.categories
        both = None if self.values is None or other.values is None else self.values | other.values
        self.values = None if both is None or len(both) > most_values else both


@dataclass(frozen=True)
class Survey:
    """What is known after the first pass.

    Attributes:
        spans: The rows, file after file.
        columns: What was found of each column that was measured.
        ids: uint64 [rows], a hash of each row's id; None where rows have none.
        rest: What follows in the file, if this is a span of a text file.
    """

    spans: tuple[FileSpan, ...]
    columns: dict[str, Column]
    ids: np.ndarray | None = None
    rest: CsvRange | None = None

    @property
    def rows(self) -> int:
        return sum(span.rows for span in self.spans)

    def moved(self, rows: int, lines: int) -> Survey:
        """The same further on in its file, after so many rows and lines."""
        spans = tuple(span.moved(rows, lines) for span in self.spans)
        return replace(
            self, spans=spans, columns={name: one.moved(rows) for name, one in self.columns.items()}
        )


def surveyed(
    files: Files,
    source: Source,
    paths: Sequence[str],
    measures: Mapping[str, Measure],
    id_column: str | None,
    client: Client | None,
) -> Survey:
    """Look at all rows once, on the workers of a client if there is one.

    Raises:
        InvalidData: A file cannot be read, has no row, or other columns than the rest.
    """
    sizes = dict(zip(source.paths, source.sizes.tolist(), strict=True))
    job = _Job(files, (), dict(measures), id_column)
    jobs: list[_Job] = []
    together: list[FileSpan] = []
    size = 0
    for path in paths:
        if together and size + sizes[path] > TASK_BYTES:
            jobs.append(replace(job, spans=tuple(together)))
            together, size = [], 0
        if sizes[path] <= RANGE_BYTES:
            together.append(FileSpan(path))
            size += sizes[path]
        elif is_parquet(path):
            jobs.extend(replace(job, spans=(span,)) for span in row_group_ranges(files.reader, path))
        else:
            ranges = byte_ranges(files, path, sizes[path])
            jobs.extend(replace(job, spans=(span,), guess=number) for number, span in enumerate(ranges))
    if together:
        jobs.append(replace(job, spans=tuple(together)))
    return _joined(_settled(jobs, map_partitions(_look, jobs, client), client), measures)


def _settled(jobs: Sequence[_Job], looks: Sequence[Survey | None], client: Client | None) -> list[Survey]:
    """Ranges of bytes counted from the beginning of their file, up to the first that nobody could judge.

    Where a range begins in the middle of a file, a quote may be open: only if there is none before it, and
    none in it, is it known to be what it seems. From there on a file is looked at in one go.
    """
    surveys: list[Survey | None] = []
    again: dict[int, _Job] = {}
    rest: CsvRange | None = None
    rows = 0
    for job, survey in zip(jobs, looks, strict=True):
        if job.guess is None:
            surveys.append(survey)
            continue
        span = job.spans[0]
        assert isinstance(span.range, CsvRange)
        if job.guess == 0:
            rest, rows = span.range, 0
        elif rest is None:
            continue  # it is looked at again, with what is before it
        lines = rest.line - span.range.line
        if survey is None or survey.rest is None:
            whole = replace(span, first_row=rows, range=replace(rest, end=sys.maxsize))
            again[len(surveys)] = replace(job, spans=(whole,), guess=None)
            surveys.append(None)
            rest = None
        else:
            surveys.append(survey.moved(rows, lines))
            rest = replace(survey.rest, line=survey.rest.line + lines)
            rows += survey.rows
    found = map_partitions(_look, list(again.values()), client)
    for place, survey in zip(again, found, strict=True):
        surveys[place] = survey
    return [survey for survey in surveys if survey is not None]


def _joined(surveys: Sequence[Survey], measures: Mapping[str, Measure]) -> Survey:
    columns = {name: Column() for name in measures}
    for survey in surveys:
        for name, column in survey.columns.items():
            columns[name].add(column, measures[name].most_values)
    hashes = [survey.ids for survey in surveys if survey.ids is not None]
    ids = np.concatenate(hashes) if hashes else None
    return Survey(tuple(span for survey in surveys for span in survey.spans), columns, ids)


@dataclass(frozen=True)
class _Job:
    """Spans to look at; `guess` is the number of a range of bytes in its file, from 0."""

    files: Files
    spans: tuple[FileSpan, ...]
    measures: dict[str, Measure]
    id_column: str | None
    guess: int | None = None


def _look(job: _Job) -> Survey | None:
    """What is in the spans; None for a range of bytes that is not plain."""
    if job.guess is None:
        return _joined([_looked(job, span) for span in job.spans], job.measures)
    try:
        return _looked(job, job.spans[0])
    except (NotPlainError, InvalidData):
        return None  # it is looked at again, by the reader that names faults


def _looked(job: _Job, span: FileSpan) -> Survey:
    """A file, or a span of one."""
    files = job.files
    wanted = list(job.measures)
    columns = {name: Column() for name in job.measures}
    hashes: list[np.ndarray] = []
    text: CsvFile | None = None
    with files.reader.open(span.path) as file:
        if is_parquet(span.path):
            check_columns(files, parquet_file(file, span.path).schema_arrow.names, span.path)
            file.seek(0)
            tables = read_batches(file, span.path, wanted, span.range)  # type: ignore[arg-type]
        else:
            assert not isinstance(span.range, tuple)
            where = span.range
            if where and job.guess is not None:
                start = line_start(file, where.start) if job.guess else where.start
                end = line_start(file, where.end) if where.end != sys.maxsize else where.end
                where = replace(where, start=start, end=max(start, end))
            text = csv_file(file, span.path, where)
            check_columns(files, text.names, span.path)
            plainly = text.tables(plain=job.guess is not None)
            tables = (files.cells(table, wanted) for table in plainly)
        cutter = Cutter(span, text)
        row = span.first_row
        for table in tables:
            for name, measure in job.measures.items():
                values = plain(table[name], name, span.path)
                _add(columns[name], values, measure, span.path, row)
                if name == job.id_column:
                    texts = as_words(values).to_pandas().to_numpy(object)
                    hashes.append(pd.util.hash_array(texts, categorize=False))
            row += table.num_rows
            cutter.add(table)
    spans = cutter.spans()
    if not spans and span.range is None:
        raise InvalidData(f"The file {span.path} has no rows", mend="check the export that wrote it")
    return Survey(spans, columns, np.concatenate(hashes) if hashes else None, text.rest if text else None)


def _add(column: Column, values: pa.ChunkedArray, measure: Measure, path: str, row: int) -> None:
    """What a few more rows hold; `row` rows of the file came before."""

    def place(index: int) -> Place:
        return Place(path, row + index + 1, str(values[index].as_py()))

    column.missing += values.null_count
    missing = first_missing(values)
    if column.first_missing is None and missing is not None:
        column.first_missing = place(missing)
    column.categories = column.categories or never_numbers(values.type)
    if measure.numbers and column.word is None:
        numbers = as_numbers(values)
        if numbers.wrong is not None:
            column.word = place(numbers.wrong)
        if numbers.infinite is not None and column.infinite is None:
            column.infinite = place(numbers.infinite)
    if not measure.most_values or (measure.numbers and is_number_type(values.type)):
        column.values = None
    if column.values is not None:
        column.values.update(as_words(pa.chunked_array([pc.unique(values).drop_null()])).to_pylist())
        if len(column.values) > measure.most_values:
            column.values = None
