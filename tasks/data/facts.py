"""Facts about every row of a version: what validation judges by.

They are gathered by shard, on workers, in two passes. The first one (`summarised`) reads a shard whole
and gives small arrays, of which the process that validates finds out what compares rows with each other
(`tasks.data.standing`). The second one (`facts_frame`, `own_frame`) puts that beside what the rows say by
themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.manifest import ID_COLUMN, SPLITS, TEXT_COLUMN, FileEntry, Manifest
from tasks.data.media_facts import LABELLED, OBJECTS, Ragged, media_facts, shown
from tasks.data.read import read_shard
from tasks.refs import Problem

if TYPE_CHECKING:
    from tasks.data.standing import Standing
    from tasks.data.store import DatasetStore

# Columns of the facts. They have a space in them, to read as words.
ROW_ID = "row id"
ROW_SPLIT = "row split"
ROW_LABEL = "row label"
REPEATED_ID = "row id repeated"
IN_OTHER_SPLIT = "row in another split"
ROWS_OF_CLASS = "row class size"
CLASS_IN_TRAIN = "row class in training"
INFINITE = "row infinite values"
OTHER_GAPS = "row gaps in other columns"


@dataclass(frozen=True)
class Shard:
    """One shard, readable on any process."""

    url: str
    options: dict[str, Any] = field(repr=False)
    manifest: Manifest = field(repr=False)
    file: FileEntry

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        filesystem, folder = fsspec.core.url_to_fs(self.url, **self.options)
        return read_shard(
            filesystem, f"{folder}/{self.file.path}", None if columns is None else list(columns)
        )


@dataclass(frozen=True)
class Summary:
    """What the first pass finds in a shard of n rows.

    Attributes:
        ids: uint64 [n], hashes of the ids.
        contents: uint64 [n], equal for rows with equal content; None where there is one split only.
        labels: How many rows (or objects) there are of each class number.
        unlabelled: Rows without a label.
        gaps: Missing values of each table column.
        label_range: Smallest and largest label of a regression.
        media: Facts of the files or texts, by column, [n] each.
        categories: Class numbers of each row's objects, or in its segmentation map.
    """

    ids: np.ndarray
    contents: np.ndarray | None
    labels: dict[int, int]
    unlabelled: int
    gaps: dict[str, int] = field(default_factory=dict)
    label_range: tuple[float, float] | None = None
    media: dict[str, np.ndarray] = field(default_factory=dict)
    categories: Ragged | None = None


def shards_of(store: DatasetStore, manifest: Manifest) -> list[Shard]:
    """The shards of a version in the order of its rows."""
    url = store.version_url(manifest.name, manifest.version)
    about = manifest.model_copy(update={"files": ()})  # it goes along with each of them
    named = [*SPLITS, *sorted(set(manifest.splits) - set(SPLITS))]
    files = [file for split in named for file in manifest.files_of(split)]
    return [Shard(url, store.options, about, file) for file in files]


def summarised(shard: Shard) -> Summary:
    """The first pass over a shard: everything in it is read and decoded."""
    manifest, table = shard.manifest, shard.read()
    compared = len(manifest.splits) > 1
    ids = hashes(table[ID_COLUMN])
    if manifest.problem.is_table:
        frame = table.select([feature.name for feature in manifest.features]).to_pandas()
        gaps = {str(name): int(count) for name, count in frame.isna().sum().items()}
        contents = pd.util.hash_pandas_object(frame, index=False).to_numpy() if compared else None
        label = table[manifest.label]
        unlabelled = label.null_count
        if manifest.problem.is_classification:
            return Summary(ids, contents, _counts(label), unlabelled, gaps)
        ends = pc.min_max(label).as_py()
        span = None if ends["min"] is None else (ends["min"], ends["max"])
        return Summary(ids, contents, {}, unlabelled, gaps, span)
    contents = _media_hashes(table, manifest) if compared else None
    facts, categories = media_facts(table, manifest)
    if categories is None:
        label = table[manifest.label]
        return Summary(ids, contents, _counts(label), label.null_count, media=facts)
    # A map counts once for each class in it, an image once for each object.
    numbers, counts = np.unique(categories.values, return_counts=True)
    labels = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    unlabelled = int((~facts[LABELLED]).sum())
    return Summary(ids, contents, labels, unlabelled, media=facts, categories=categories)


def facts_frame(shard: Shard, table: pa.Table, standing: Standing, complete: Sequence[str]) -> pd.DataFrame:
    """The second pass over a shard: a line for each row, with a fresh index.

    Args:
        shard: The shard.
        table: Its rows, with the `columns_of_facts`.
        standing: How its rows stand to all others.
        complete: Feature columns that have no gap in any shard.
    """
    manifest = shard.manifest
    frame = pd.DataFrame(
        {
            ROW_ID: table[ID_COLUMN].to_pandas(),
            ROW_SPLIT: shard.file.split,
            REPEATED_ID: standing.repeated,
            IN_OTHER_SPLIT: standing.copied,
        }
    )
    for name, values in shown(standing.media).items():
        frame[name] = values
    if standing.categories is not None:
        count = OBJECTS if manifest.problem.has_objects else None
        numbers = standing.media[count] if count else standing.categories.lengths
        frame[ROW_LABEL] = np.where(standing.media[LABELLED], numbers, np.nan)
        frame[ROWS_OF_CLASS] = standing.smallest_class()
        frame[CLASS_IN_TRAIN] = standing.trained_classes()
    elif manifest.problem.is_classification:
        codes = table[manifest.label].to_pandas()
        frame[ROW_LABEL] = class_names(codes, manifest).to_numpy()
        frame[ROWS_OF_CLASS] = codes.map(standing.rows_of_class)
        frame[CLASS_IN_TRAIN] = codes.isin(list(standing.trained)) | codes.isna()
    else:
        frame[ROW_LABEL] = table[manifest.label].to_pandas()
    if manifest.problem.is_table:
        numeric = [feature.name for feature in manifest.features if feature.type == "numeric"]
        if manifest.problem is Problem.TABLE_REGRESSION:
            numeric.append(manifest.label)
        frame[INFINITE] = _count_rows(table, numeric, pc.is_inf)
        frame[OTHER_GAPS] = _count_rows(table, complete, lambda one: pc.is_null(one, nan_is_null=True))
    return frame


def columns_of_facts(manifest: Manifest) -> list[str]:
    """The stored columns that `facts_frame` needs; files are not among them."""
    if manifest.problem.is_table:
        return [ID_COLUMN, *(feature.name for feature in manifest.features), manifest.label]
    return [ID_COLUMN, manifest.label] if manifest.problem.is_classification else [ID_COLUMN]


def own_columns(manifest: Manifest) -> list[str]:
    """The stored columns that expectations of a user can speak of."""
    features = [one.name for one in manifest.features if one.type not in ("image", "audio")]
    labels = [manifest.label] if manifest.problem.is_table or manifest.problem.is_classification else []
    return [ID_COLUMN, *features, *labels]


def own_frame(frame: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Stored columns as their owner knows them: classes by their names."""
    if manifest.problem.is_classification and manifest.label in frame:
        return frame.assign(**{manifest.label: class_names(frame[manifest.label], manifest)})
    return frame


def class_names(codes: pd.Series, manifest: Manifest) -> pd.Series:
    """Names of class numbers. A number that stands for no class is shown as it is."""
    names = dict(enumerate(manifest.classes))
    return codes.map(lambda code: names.get(int(code), str(int(code))), na_action="ignore").astype("str")


def hashes(texts: pa.ChunkedArray) -> np.ndarray:
    """uint64 [n], equal for equal texts; what is missing counts as an empty text."""
    filled = pc.fill_null(texts, "").to_numpy()
    return np.asarray(pd.util.hash_array(filled.astype(object), categorize=False))


def _media_hashes(table: pa.Table, manifest: Manifest) -> np.ndarray:
    if manifest.problem.modality == "text":
        return hashes(table[TEXT_COLUMN])
    contents = pc.struct_field(table[manifest.features[0].name], "bytes")
    digests = [hashlib.sha256(one.as_buffer() or b"").digest()[:8] for one in contents]
    return np.frombuffer(b"".join(digests), np.uint64)


def _counts(labels: pa.ChunkedArray) -> dict[int, int]:
    counted = pc.value_counts(labels.drop_null())
    return {int(one["values"].as_py()): int(one["counts"].as_py()) for one in counted}


def _count_rows(table: pa.Table, columns: Sequence[str], test: Any) -> np.ndarray:
    """In how many of these columns a row is as the test says."""
    found = np.zeros(table.num_rows, np.int64)
    for column in columns:
        found += pc.fill_null(test(table[column]), False).to_numpy()
    return found
