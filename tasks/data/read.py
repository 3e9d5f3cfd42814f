"""Read splits of a dataset version into memory, as arrays and frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.arrays import empty_array
from tasks.data.formats.images import open_image, pixels
from tasks.data.manifest import FOLD_COLUMN, ID_COLUMN, IMAGE_COLUMN, Manifest
from tasks.data.preparation.preprocessing import Preprocessing
from tasks.data.shards import Shard
from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged, InvalidData, NotFound
from tasks.refs import DatasetRef, Problem

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

READ_FOR_TRAINING = (
    Problem.IMAGE_CLASSIFICATION,
    Problem.TABLE_CLASSIFICATION,
    Problem.TABLE_REGRESSION,
    Problem.TABLE_CLUSTERING,
    Problem.TABLE_DIMENSION_REDUCTION,
)
"""Problems that the catalogue of algorithms knows."""


@dataclass(frozen=True)
class ImageSplit:
    """Images ready for a model: n · height · width · channels bytes, mapped from a file where they are many.

    Attributes:
        ids: n row ids.
        images: uint8 [n, height, width, channels], channels 1 or 3.
        labels: int64 [n], indices into the manifest's classes.
    """

    ids: list[str]
    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class TableSplit:
    """Rows ready for a model.

    Attributes:
        ids: n row ids.
        features: n rows, float64 columns, no missing value.
        labels: int64 [n] indices into the manifest's classes; float64 [n] for regression, and of
            nothing but NaN where rows have no label.
    """

    ids: list[str]
    features: pd.DataFrame
    labels: np.ndarray


@dataclass(frozen=True)
class RawSplit:
    """Rows as they were ingested: what a client would send to an endpoint.

    Attributes:
        ids: n row ids.
        images: n decoded images of any size and mode; None for tables.
        contents: n encoded image files, as stored; None for tables.
        table: n rows of the raw features; None for images.
        labels: int64 [n], or float64 [n] for regression, and of nothing but NaN without labels.
    """

    ids: list[str]
    images: list[Image.Image] | None
    contents: list[bytes] | None
    table: pd.DataFrame | None
    labels: np.ndarray


def read_split(store: DatasetStore, ref: DatasetRef, split: str) -> ImageSplit | TableSplit:
    """A split of a preprocessed version, in the order of its shards.

    Raises:
        NotFound: The version or the split is not there.
        InvalidData: The version is not ready for training: images of several sizes, missing values.
    """
    manifest = store.open(ref)
    rows = _rows(manifest, split, ref)
    labels = np.empty(rows, np.int64 if manifest.problem.is_classification else np.float64)
    ids: list[str] = []
    images: np.ndarray | None = None
    frames = []
    for table in shard_tables(store, manifest, split):
        start = len(ids)
        ids.extend(table[ID_COLUMN].to_pylist())
        labels[start : len(ids)] = _labels(table, manifest)
        if manifest.problem.is_table:
            frames.append(features_of(table, manifest))
            continue
        for place, content in enumerate(_views(table), start):
            image = pixels(content)
            if images is None:
                images = empty_array((rows, *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                raise InvalidData(
                    f"The images of {ref} differ in size or colours: {ids[0]} is "
                    f"{_shape(images.shape[1:])}, {ids[place]} is {_shape(image.shape)}",
                    where=f"split {split}",
                    mend="preprocess this version, and train on the result",
                )
            images[place] = image
    if not manifest.problem.is_table:
        assert images is not None  # a split has at least one row
        return ImageSplit(ids, images, labels)
    import pandas as pd

    features = pd.concat(frames, ignore_index=True)
    unfit = [
        str(column)
        for column in features.columns
        if features[column].dtype != np.float64 or features[column].isna().any()
    ]
    if unfit:
        raise InvalidData(
            f"The version {ref} has missing values or text in {', '.join(unfit)}",
            where=f"split {split}",
            mend="preprocess this version with impute and encode, and train on the result",
        )
    return TableSplit(ids, features, labels)


def read_fold(
    store: DatasetStore, ref: DatasetRef, fold: int
) -> tuple[ImageSplit, ImageSplit] | tuple[TableSplit, TableSplit]:
    """The training rows of a version that is divided for cross-validation, without and of one fold.

    Args:
        store: The store that holds the version.
        ref: A preprocessed version.
        fold: The fold that is held out, from 0.

    Returns:
        The rows to train on, and those of the fold.

    Raises:
        NotFound: The version has no such fold.
    """
    manifest = store.open(ref)
    if not 0 <= fold < manifest.folds:
        raise NotFound(
            f"The version {ref} has no fold {fold}",
            allowed=f"0 to {manifest.folds - 1}" if manifest.folds else "it is not divided into folds",
            mend="preprocess with split.folds",
        )
    split = read_split(store, ref, "train")
    column = pa.concat_tables(list(shard_tables(store, manifest, "train", [FOLD_COLUMN])))[FOLD_COLUMN]
    held_out = column.to_numpy() == fold
    if isinstance(split, ImageSplit):
        return _images_where(split, ~held_out), _images_where(split, held_out)
    return _rows_where(split, ~held_out), _rows_where(split, held_out)


def _images_where(split: ImageSplit, mask: np.ndarray) -> ImageSplit:
    ids = [key for key, kept in zip(split.ids, mask, strict=True) if kept]
    chosen = empty_array((len(ids), *split.images.shape[1:]), np.uint8)
    for place, row in enumerate(np.flatnonzero(mask)):  # one by one: neither need fit into memory
        chosen[place] = split.images[row]
    return ImageSplit(ids, chosen, split.labels[mask])


def _rows_where(split: TableSplit, mask: np.ndarray) -> TableSplit:
    ids = [key for key, kept in zip(split.ids, mask, strict=True) if kept]
    return TableSplit(ids, split.features[mask].reset_index(drop=True), split.labels[mask])


def read_raw_rows(
    store: DatasetStore, ref: DatasetRef, split: str, limit: int | None = None, *, spread: bool = False
) -> RawSplit:
    """The rows of a split as they were before any preprocessing, in the split's order.

    Follows the parents to the ingested version and takes from there the rows whose ids are in the split.

    Args:
        store: The store that holds the version and its parents.
        ref: The version that a model was trained or evaluated on.
        split: Name of the split.
        limit: Only the first so many rows.
        spread: So many rows evenly over the split, instead of the first: those may be of one class.
    """
    manifest = store.open(ref)
    rows_of_split = _rows(manifest, split, ref)
    tables = list(shard_tables(store, manifest, split, columns=[ID_COLUMN]))
    wanted = pa.concat_tables(tables)[ID_COLUMN].combine_chunks()
    if limit is not None and spread and limit < rows_of_split:
        wanted = wanted.take(np.linspace(0, rows_of_split - 1, limit).round().astype(np.int64))
    elif limit is not None:
        wanted = wanted.slice(0, limit)
    raw = raw_manifest(store, manifest)
    found = list(_rows_of_ids(store.shards(raw), wanted))
    rows = pa.concat_tables(found) if found else None
    if rows is None or rows.num_rows != len(wanted):
        raise Damaged(
            f"{len(wanted)} rows of {ref} should be in {raw.name}@{raw.version}, "
            f"{rows.num_rows if rows else 0} are",
            where=f"split {split}",
            mend="ingest and preprocess again",
        )
    rows = rows.take(pc.index_in(wanted, value_set=rows[ID_COLUMN].combine_chunks()))
    ids = wanted.to_pylist()
    labels = _labels(rows, raw)
    if raw.problem.is_table:
        return RawSplit(ids, None, None, features_of(rows, raw), labels)
    contents = contents_of(rows)
    images = [open_image(content) for content in contents]
    for image in images:
        image.load()
    return RawSplit(ids, images, contents, None, labels)


def _rows_of_ids(shards: Sequence[Shard], wanted: pa.Array) -> Iterator[pa.Table]:
    """The rows with these ids; of a row group without any of them only the ids are read."""
    left = len(wanted)
    for shard in shards:
        if not left:
            return
        with shard.opened(ahead=True) as file:
            for group in range(file.num_row_groups):
                chosen = pc.is_in(file.read_row_group(group, [ID_COLUMN])[ID_COLUMN], value_set=wanted)
                count = pc.sum(chosen).as_py() or 0
                if count:
                    left -= count
                    yield file.read_row_group(group).filter(chosen)


def preprocessing_of(store: DatasetStore, ref: DatasetRef) -> Preprocessing:
    """The fitted steps from raw rows to the rows of this version."""
    manifest = store.open(ref)
    raw = raw_manifest(store, manifest)
    return Preprocessing(
        problem=manifest.problem,
        features=raw.features,
        steps=manifest.preprocessing,
        max_image_side_px=None if manifest.problem.is_table else raw.parameters.get("max_image_side_px"),
    )


def require_split(manifest: Manifest, split: str) -> None:
    """Check that a version has rows in a split.

    Raises:
        NotFound: It has none.
    """
    if not manifest.splits.get(split):
        raise NotFound(
            f"The version {manifest.name}@{manifest.version} has no rows in a split named {split}",
            allowed=", ".join(manifest.splits),
            mend="choose one of those, or preprocess the dataset, which divides it",
        )


def raw_manifest(store: DatasetStore, manifest: Manifest) -> Manifest:
    """The version whose rows are raw: this one, or the nearest before it that no step was applied to.

    That need not be the ingested one: labelling makes a version with a parent whose rows are raw.
    """
    while manifest.parent is not None and manifest.preprocessing:
        manifest = store.get(manifest.name, manifest.parent)
    return manifest


def shard_tables(
    store: DatasetStore, manifest: Manifest, split: str, columns: list[str] | None = None
) -> Iterator[pa.Table]:
    """The shards of a split, one after the other; the next is read while the caller is at one."""
    with ThreadPoolExecutor(1) as reader:
        coming = None
        for shard in [*store.shards(manifest, split), None]:
            ready = coming
            coming = reader.submit(shard.read, columns) if shard is not None else None
            if ready is not None:
                yield ready.result()


def _views(table: pa.Table) -> Iterator[memoryview]:
    """The encoded image files of a shard, where they lie in memory."""
    for chunk in pc.struct_field(table[IMAGE_COLUMN], "bytes").chunks:
        for content in chunk:
            yield memoryview(content.as_buffer()).cast("B")  # Arrow's bytes are signed


def contents_of(table: pa.Table) -> list[bytes]:
    """The encoded image files of a shard."""
    return list(pc.struct_field(table[IMAGE_COLUMN], "bytes").to_pylist())


def _rows(manifest: Manifest, split: str, ref: DatasetRef) -> int:
    if manifest.problem not in READ_FOR_TRAINING:
        raise InvalidData(
            f"The rows of {ref} cannot be read for training: it is for {manifest.problem.value}",
            allowed=", ".join(READ_FOR_TRAINING),
        )
    require_split(manifest, split)
    return manifest.splits[split]


def _labels(table: pa.Table, manifest: Manifest) -> np.ndarray:
    if not manifest.label:
        return np.full(table.num_rows, np.nan)
    labels = table[manifest.label]
    if labels.null_count:
        raise InvalidData(
            f"{labels.null_count} rows of {manifest.name}@{manifest.version} have no label",
            where=f"column {manifest.label}",
            mend="label them, or leave them out of the source",
        )
    return np.asarray(labels.to_numpy())


def features_of(table: pa.Table, manifest: Manifest) -> pd.DataFrame:
    """The feature columns of some rows."""
    frame: pd.DataFrame = table.select([feature.name for feature in manifest.features]).to_pandas()
    return frame


def _shape(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{width} × {height} pixels with {channels} channel{'s' if channels > 1 else ''}"
