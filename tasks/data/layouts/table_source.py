"""What the layouts of tables share: which files, which columns, labels and ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.data.config import IngestConfig
from tasks.data.formats.csv_cells import freed_cell
from tasks.data.formats.table_files import TABLE_SUFFIXES, column_names, is_parquet
from tasks.data.layouts.layout import INTEGER, named_classes
from tasks.data.layouts.media_rows import label_names
from tasks.data.layouts.table_spans import Files
from tasks.data.layouts.table_survey import Column, Measure, Survey
from tasks.data.layouts.table_values import as_words, plain
from tasks.data.listed import listed
from tasks.data.manifest import ID_COLUMN, SPLIT_OF
from tasks.data.sources.source import Source
from tasks.errors import InvalidData

COLUMNS_FILE = "trainyard_columns.json"

MOST_CATEGORIES = 1_000
MOST_CATEGORIES_OF_ALL = 1_000_000
"""A column with more different values is kept without listing them in the manifest; workers hold these."""

MOST_CLASSES = 10_000
"""A label with more different values is no class."""

_SHARD = re.compile(r"-\d+-of-\d+$")
_WHOLE = re.compile(r"^[+-]?\d+(\.0+)?$")

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,?\d+")
"""A number as much of Europe writes it; one without a fraction stands between others that have one."""


class ColumnsFile(BaseModel):
    """What an export writes beside its tables, so that they come in again as they were."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str | None = Field(min_length=1, description="None where rows have no label.")
    text: str | None = None
    types: dict[str, Literal["numeric", "categorical"]] = {}
    escaped: bool = Field(default=False, description="Cells that a spreadsheet would run have a `'` before.")


def table_paths(source: Source) -> list[str]:
    return [path for path in source.paths if path.lower().endswith(TABLE_SUFFIXES)]


def split_of(path: str) -> str:
    """The split that a table's name or first folder says, such as test.csv or test-00000-of-00002.parquet."""
    file = PurePosixPath(path)
    stem = _SHARD.sub("", file.stem.lower())
    return SPLIT_OF.get(stem) or SPLIT_OF.get(file.parts[0].lower(), "train")


def columns_file(source: Source) -> ColumnsFile | None:
    """What an export of ours says of its columns; None where there is no such file."""
    path = source.named(COLUMNS_FILE)
    if path is None:
        return None
    try:
        return ColumnsFile.model_validate_json(source.reader.read(path))
    except ValidationError as error:
        raise InvalidData(
            f"The file {path} does not describe columns: {error.errors()[0]['msg']}",
            where=source.given,
            allowed='what an export writes: {"label": "…", "types": {"…": "numeric"}, "escaped": true}',
            mend="remove the file, or write it as an export does",
        ) from None


def files_of(source: Source, paths: Sequence[str], about: ColumnsFile | None) -> Files:
    """The files, with the columns that the first one has."""
    escaped = about is not None and about.escaped
    with source.reader.open(paths[0]) as file:
        names = column_names(file, paths[0])
    if escaped and not is_parquet(paths[0]):
        names = [freed_cell(name) for name in names]
    return Files(source.reader, paths[0], tuple(names), escaped)


def refuse_unknown(wanted: set[str], files: Files, field: str) -> None:
    """Refuse names of columns that are not there."""
    unknown = sorted(wanted - set(files.columns))
    if unknown:
        raise InvalidData(
            f"There is no column {listed(unknown)}",
            allowed=listed(files.columns, 50),
            mend=f"correct the name in {field}",
        )


def id_column_of(files: Files, taken: Sequence[str]) -> str | None:
    """The column that identifies rows, if there is one that is nothing else."""
    return ID_COLUMN if ID_COLUMN in files.columns and ID_COLUMN not in taken else None


def most_categories(columns: int) -> int:
    """How many values of a column are listed, where there are so many columns."""
    return min(MOST_CATEGORIES, max(10, MOST_CATEGORIES_OF_ALL // columns))


def measure_of_classes() -> Measure:
    return Measure(most_values=MOST_CLASSES)


def numbers_or_refuse(column: Column, name: str) -> None:
    """Refuse a column of which a value is no finite number."""
    found = column.word or column.infinite
    if found is not None:
        raise InvalidData(
            f"The column {name} holds {found.value!r}, which is not a finite number",
            where=f"row {found.row:,} of {found.path}",
            allowed="numbers, or nothing where the value is missing",
            mend="write numbers with a point, as in 0.5"
            if _DECIMAL_COMMA.fullmatch(found.value)
            else "correct it, or empty the cell",
        )


def refuse_decimal_commas(column: Column, name: str) -> None:
    """Refuse a column that would be taken for words because its numbers have a comma."""
    found = column.word
    if found is None or not _DECIMAL_COMMA.fullmatch(found.value):
        return
    if column.values is None or all(_DECIMAL_COMMA.fullmatch(value) for value in column.values):
        raise InvalidData(
            f"The column {name} holds numbers with a decimal comma, such as {found.value}",
            where=f"row {found.row:,} of {found.path}",
            allowed="numbers with a point, as in 0.5",
            mend="write them so, or set the column to categorical in column_types if they are names",
        )


def refuse_without_labels(survey: Survey, label: str) -> None:
    """Refuse files of which no row has a label."""
    column = survey.columns[label]
    if column.missing == survey.rows or column.values == {""}:
        raise InvalidData(
            f"No row has a label: the column {label} is empty", mend="choose another label column"
        )


def classes_of(
    survey: Survey, label: str, source: Source, config: IngestConfig
) -> tuple[tuple[str, ...], dict[str, int], bool]:
    """Class names; the integer label of every label in the files; whether these are all integers."""
    refuse_without_labels(survey, label)
    values = survey.columns[label].values
    if values is None:
        raise InvalidData(
            f"The column {label} has more than {MOST_CLASSES:,} different labels",
            allowed="a column with one of few classes in every row",
            mend="choose another label column; for numbers, table-regression",
        )
    values = values - {""}
    clean = {value: value for value in values}
    if all(_WHOLE.match(value) for value in values):
        # Integers beside a gap become 1.0 in many exports.
        clean = {value: value.partition(".")[0] for value in values}
    names = label_names(source, config)
    classes, index_of = named_classes(clean.values(), names, f"column {label}", least=1 if config.add else 2)
    integers = bool(names) and all(INTEGER.match(value) for value in clean.values())
    return classes, {value: index_of[name] for value, name in clean.items()}, integers


def refuse_repeated_ids(survey: Survey, files: Files, id_column: str | None) -> None:
    """Refuse rows without an id, or with that of another row."""
    if id_column is None or survey.ids is None:
        return
    mend = f"correct them, or name the column {id_column} otherwise if it does not identify rows"
    allowed = "one value a row, each once"
    missing = survey.columns[id_column].first_missing
    if missing is not None:
        raise InvalidData(
            f"The column {id_column} has missing values",
            where=f"row {missing.row:,} of {missing.path}",
            allowed=allowed,
            mend=mend,
        )
    hashes = np.sort(survey.ids)
    twice = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if not len(twice):
        return
    # Two ids may have one hash, though hardly ever: so the ids themselves are compared.
    rows_of: dict[str, list[str]] = {}
    for part in survey.spans:
        row = part.first_row
        for table in files.batches(part, [id_column]):
            ids = as_words(plain(table[id_column], id_column, part.path)).to_pandas().to_numpy(object)
            found = np.flatnonzero(np.isin(pd.util.hash_array(ids, categorize=False), twice[:1_000]))
            for index in found:
                places = rows_of.setdefault(ids[index], [])
                if len(places) < 2:
                    places.append(f"row {row + int(index) + 1:,} of {part.path}")
            row += table.num_rows
    repeated = {name: places for name, places in sorted(rows_of.items()) if len(places) > 1}
    if repeated:
        raise InvalidData(
            f"The column {id_column} has {len(twice):,} values more than once: {listed(list(repeated))}",
            where=" and ".join(next(iter(repeated.values()))),
            allowed=allowed,
            mend=mend,
        )


def format_of(paths: Sequence[str]) -> str:
    """`parquet` if all files are, for exports; else `csv`."""
    return "parquet" if all(map(is_parquet, paths)) else "csv"


def types_of(about: ColumnsFile | None, files: Files, config: IngestConfig) -> Mapping[str, str]:
    """Types of columns that are not to be inferred; the settings prevail.

    A column that was taken out of an exported table is no fault.
    """
    known = about.types if about else {}
    return {name: kind for name, kind in known.items() if name in files.columns} | config.column_types
