"""Facts about every row of a version: what validation judges by.

They are gathered by shard, on workers, in two passes. The first one (`summarised`) reads a shard whole
and gives small arrays, of which the process that validates finds out what compares rows with each other
(`tasks.data.validation.standing`). The second one (`facts_frame`, `own_frame`) puts that beside what the
rows say by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.manifest import ID_COLUMN, Manifest
from tasks.data.row_keys import content_keys, id_keys
from tasks.data.shards import Shard
from tasks.data.validation.media_facts import LABELLED, OBJECTS, Ragged, media_facts, shown
from tasks.refs import Problem

if TYPE_CHECKING:
    from tasks.data.validation.standing import Standing

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
_CLASS_NUMBER = "row class number"


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


def summarised(shard: Shard) -> Summary:
    """The first pass over a shard: everything in it is read and decoded."""
    parts = [_summary(table, shard.manifest) for table in shard.groups()]
    contents = [part.contents for part in parts if part.contents is not None]
    spans = [part.label_range for part in parts if part.label_range]
    ragged = [part.categories for part in parts if part.categories is not None]
    return Summary(
        ids=np.concatenate([part.ids for part in parts]),
        contents=np.concatenate(contents) if contents else None,
        labels=dict(sum((Counter(part.labels) for part in parts), Counter())),
        unlabelled=sum(part.unlabelled for part in parts),
        gaps=dict(sum((Counter(part.gaps) for part in parts), Counter())),
        label_range=(min(low for low, _ in spans), max(high for _, high in spans)) if spans else None,
        media={name: np.concatenate([part.media[name] for part in parts]) for name in parts[0].media},
        categories=Ragged.joined(ragged) if ragged else None,
    )


def _summary(table: pa.Table, manifest: Manifest) -> Summary:
    contents = content_keys(table, manifest) if len(manifest.splits) > 1 else None
    ids = id_keys(table[ID_COLUMN])
    label = table[manifest.label] if manifest.label else pa.chunked_array([[]], pa.float64())
    if manifest.problem.is_table:
        gaps = {feature.name: _gaps(table[feature.name]) for feature in manifest.features}
        if manifest.problem.is_classification:
            return Summary(ids, contents, _counts(label), label.null_count, gaps)
        ends = pc.min_max(label).as_py()
        span = None if ends["min"] is None else (ends["min"], ends["max"])
        return Summary(ids, contents, {}, label.null_count, gaps, span)
    facts, categories = media_facts(table, manifest)
    if categories is None:
        return Summary(ids, contents, _counts(label), label.null_count, media=facts)
    # A map counts once for each class in it, an image once for each object.
    numbers, counts = np.unique(categories.values, return_counts=True)
    labels = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    return Summary(ids, contents, labels, label.null_count, media=facts, categories=categories)


def facts_frame(shard: Shard, stored: pd.DataFrame, standing: Standing) -> pd.DataFrame:
    """The second pass over a shard: a line for each row, with a fresh index.

    Args:
        shard: The shard.
        stored: The `stored_facts` of its rows.
        standing: How its rows stand to all others.
    """
    manifest = shard.manifest
    frame = stored.copy(deep=False)
    # Texts that repeat are categories: the library hashes what it is given, over and over.
    splits = list(manifest.splits)
    place = np.full(len(frame), splits.index(shard.file.split))
    frame[ROW_SPLIT] = pd.Categorical.from_codes(place, pd.Index(splits))
    frame[[REPEATED_ID, IN_OTHER_SPLIT]] = False
    frame.loc[standing.repeated, REPEATED_ID] = True
    frame.loc[standing.copied, IN_OTHER_SPLIT] = True
    for name, values in shown(standing.media).items():
        frame[name] = values
    if standing.categories is not None:
        numbers = standing.media[OBJECTS] if manifest.problem.has_objects else standing.categories.lengths
        frame[ROW_LABEL] = np.where(standing.media[LABELLED], numbers, np.nan)
        frame[ROWS_OF_CLASS] = standing.smallest_class()
        frame[CLASS_IN_TRAIN] = standing.trained_classes()
    elif manifest.problem.is_classification:
        codes = frame.pop(_CLASS_NUMBER)
        frame[ROW_LABEL] = _classes_of(codes, manifest)
        frame[ROWS_OF_CLASS] = codes.map(standing.rows_of_class)
        frame[CLASS_IN_TRAIN] = codes.isin(list(standing.trained)) | codes.isna()
    return frame


def stored_facts(table: pa.Table, manifest: Manifest, complete: Sequence[str]) -> pd.DataFrame:
    """What rows say by themselves, but for their files.

    Args:
        table: Rows, with the `columns_of_facts`.
        manifest: Their version.
        complete: Feature columns that have no gap in any shard.
    """
    frame = pd.DataFrame({ROW_ID: table[ID_COLUMN].to_pandas()})
    if manifest.problem.is_classification:
        frame[_CLASS_NUMBER] = table[manifest.label].to_pandas()
    elif manifest.problem.is_table and manifest.label:
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
        return [ID_COLUMN, *(feature.name for feature in manifest.features), *manifest.label_columns]
    return [ID_COLUMN, manifest.label] if manifest.problem.is_classification else [ID_COLUMN]


def own_columns(manifest: Manifest) -> list[str]:
    """The stored columns that expectations of a user can speak of."""
    features = [one.name for one in manifest.features if one.type not in ("image", "audio")]
    labels = manifest.label_columns if manifest.problem.is_table or manifest.problem.is_classification else []
    return [ID_COLUMN, *features, *labels]


def own_frame(table: pa.Table, manifest: Manifest) -> pd.DataFrame:
    """Stored columns as their owner knows them: classes by their names."""
    frame: pd.DataFrame = table.to_pandas()
    if manifest.problem.is_classification and manifest.label in frame:
        frame[manifest.label] = pd.Series(_classes_of(frame[manifest.label], manifest)).astype("str")
    return frame


def _classes_of(codes: pd.Series, manifest: Manifest) -> Any:
    """Names of class numbers. A number that stands for no class gets a name that says so."""
    count = len(manifest.classes)
    missing = codes.isna().to_numpy()
    numbers = codes.fillna(0).to_numpy(np.int64)
    unknown = np.unique(numbers[~missing & ((numbers < 0) | (numbers >= count))])
    places = np.where((numbers < 0) | (numbers >= count), count + np.searchsorted(unknown, numbers), numbers)
    names = [*manifest.classes, *(f"{number}, which is no class" for number in unknown)]
    return pd.Categorical.from_codes(np.where(missing, -1, places), pd.Index(names))


def _gaps(values: pa.ChunkedArray) -> int:
    return int(pc.sum(pc.is_null(values, nan_is_null=True)).as_py() or 0)


def _counts(labels: pa.ChunkedArray) -> dict[int, int]:
    counted = pc.value_counts(labels.drop_null())
    return {int(one["values"].as_py()): int(one["counts"].as_py()) for one in counted}


def _count_rows(table: pa.Table, columns: Sequence[str], test: Any) -> np.ndarray:
    """In how many of these columns a row is as the test says."""
    found = np.zeros(table.num_rows, np.int64)
    for column in columns:
        found += pc.fill_null(test(table[column]), False).to_numpy()
    return found
