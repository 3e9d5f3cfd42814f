"""CSV and Parquet files, one row a sample."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.data.config import IngestConfig
from tasks.data.layouts.layout import SPLIT_OF, Contents, named_classes
from tasks.data.listed import listed
from tasks.data.manifest import ID_COLUMN, SPLITS, Feature
from tasks.data.preprocessing import numbers, words
from tasks.data.shards import schema
from tasks.data.sources import Source
from tasks.data.table_files import TABLE_SUFFIXES, read_table
from tasks.errors import InvalidData
from tasks.refs import Problem

SHARD_ROWS = 262_144
MOST_CATEGORIES = 1_000
"""A column with more different values is kept without listing them in the manifest."""


@dataclass(frozen=True)
class TableShard:
    """Rows that were read already."""

    split: str
    rows: pa.Table

    def table(self) -> tuple[pa.Table, list[str]]:
        return self.rows, []


class Table:
    """Files named train, validation and test are splits; the rows of all others are divided later.

    A column `id`, if there is one, identifies the rows and is no feature.
    """

    name = "table"
    describes = "one or more CSV or Parquet files, one row a sample, the label in a named column"

    def reads(self, problem: Problem) -> bool:
        return problem.is_table

    def matches(self, source: Source, config: IngestConfig) -> bool:
        return self.reads(config.problem) and bool(_tables(source))

    def read(self, source: Source, config: IngestConfig) -> Contents:
        frames = [_read_file(source, path) for path in _tables(source)]
        columns = list(frames[0].columns)
        for path, frame in zip(_tables(source), frames, strict=True):
            if list(frame.columns) != columns:
                odd = set(frame.columns) ^ set(columns)
                raise InvalidData(
                    f"The columns of {path} are not those of {_tables(source)[0]}",
                    where=listed(sorted(odd)) if odd else "the order of the columns",
                    mend="give every file the same columns in the same order",
                )
        splits = np.concatenate(
            [
                np.full(len(frame), SPLIT_OF.get(PurePosixPath(path).stem.lower(), "train"), dtype=object)
                for path, frame in zip(_tables(source), frames, strict=True)
            ]
        )
        ids = _ids(source, frames)
        frame = pd.concat(frames, ignore_index=True)
        return _contents(frame, ids, splits, config)


def _tables(source: Source) -> list[str]:
    return [file.path for file in source.files if file.path.lower().endswith(TABLE_SUFFIXES)]


def _read_file(source: Source, path: str) -> pd.DataFrame:
    frame = read_table(io.BytesIO(source.reader.read(path)), path)
    if frame.empty:
        raise InvalidData(
            f"The file {path} has no rows", where=source.given, mend="check the export that wrote it"
        )
    return frame


def _ids(source: Source, frames: list[pd.DataFrame]) -> list[str]:
    if ID_COLUMN not in frames[0].columns:
        return [
            f"{path}#{row}"
            for path, frame in zip(_tables(source), frames, strict=True)
            for row in range(1, len(frame) + 1)
        ]
    ids = words(pd.concat([frame.pop(ID_COLUMN) for frame in frames], ignore_index=True))
    repeated = sorted(set(ids[ids.duplicated()].dropna()))
    if repeated or ids.isna().any():
        what = f"{len(repeated)} values more than once: {listed(repeated)}" if repeated else "missing values"
        raise InvalidData(
            f"The column id has {what}",
            where=source.given,
            allowed="one value a row, each once",
            mend="correct them, or name the column otherwise if it does not identify rows",
        )
    return list(ids)


def _contents(frame: pd.DataFrame, ids: list[str], splits: np.ndarray, config: IngestConfig) -> Contents:
    label = config.label or str(frame.columns[-1])
    unknown = sorted({label, *config.column_types} - set(frame.columns))
    if unknown:
        raise InvalidData(
            f"There is no column {listed(unknown)}",
            allowed=listed([str(name) for name in frame.columns], 50),
            mend="correct the name in label or column_types",
        )
    if len(frame.columns) < 2:
        raise InvalidData(f"Beside the label {label} there is no column to learn from")
    labels, classes = _labels(frame[label], config)
    columns: dict[str, pd.Series] = {}
    features = []
    for name in frame.columns:
        if name == label:
            continue
        kind = config.column_types.get(name) or _kind(frame[name])
        columns[name] = numbers(frame[name]) if kind == "numeric" else words(frame[name])
        values = () if kind == "numeric" else tuple(sorted(columns[name].dropna().unique()))
        features.append(
            Feature(name=name, type=kind, categories=values if len(values) <= MOST_CATEGORIES else ())
        )
    layout = schema(config.problem, features, label, classes)
    arrays = [
        pa.array(ids, pa.string()),
        *(pa.array(columns[feature.name], from_pandas=True) for feature in features),
        labels,
    ]
    table = pa.table(
        [array.cast(field.type) for array, field in zip(arrays, layout, strict=True)], schema=layout
    )
    shards: list[TableShard] = []
    for split in SPLITS:
        rows = table.take(pa.array(np.flatnonzero(splits == split)))
        shards.extend(
            TableShard(split, rows.slice(start, SHARD_ROWS)) for start in range(0, rows.num_rows, SHARD_ROWS)
        )
    return Contents(tuple(features), label, classes, shards, on_workers=False)


def _kind(series: pd.Series) -> str:
    """Numeric when every value that is there is a number; a column of gaps only counts as numeric."""
    present = series.dropna()
    if pd.api.types.is_bool_dtype(present) or pd.api.types.is_datetime64_any_dtype(present):
        return "categorical"
    return "categorical" if pd.to_numeric(present, errors="coerce").isna().any() else "numeric"


def _labels(series: pd.Series, config: IngestConfig) -> tuple[pa.Array, tuple[str, ...]]:
    """Labels as int64 with the class names, or float64; null where a row has none."""
    if series.isna().all():
        raise InvalidData(
            f"No row has a label: the column {series.name} is empty", mend="choose another label column"
        )
    if not config.problem.is_classification:
        return pa.array(numbers(series), pa.float64(), from_pandas=True), ()
    texts = words(series)
    if texts.dropna().str.fullmatch(r"[+-]?\d+(\.0+)?").all():
        texts = texts.str.replace(
            r"\.0+$", "", regex=True
        )  # integers beside a gap become 1.0 in many exports
    classes, index_of = named_classes(texts.dropna(), config.label_names, f"column {series.name}")
    return pa.array(
        [index_of.get(text) if isinstance(text, str) else None for text in texts], pa.int64()
    ), classes
