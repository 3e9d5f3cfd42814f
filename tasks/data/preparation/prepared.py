"""The rows of one partition after the steps: what a worker does while a version is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.formats.audio import Sound, decoded, flac
from tasks.data.formats.images import UNREADABLE, is_plain, open_image, plain, plain_png_header, png
from tasks.data.manifest import FOLD_COLUMN, ID_COLUMN, Feature, FittedStep, Manifest
from tasks.data.methods import AudioMethod, ImageMethod, TableMethod, TextMethod
from tasks.data.methods.method import Batch, Geometry
from tasks.data.preparation.geometry import moved_map, moved_objects
from tasks.data.preparation.partition import NEW_FOLD, Partition
from tasks.data.preparation.preprocessing import BoundStep, applied, bound_steps
from tasks.data.read import features_of
from tasks.data.row_keys import digest_keys
from tasks.data.shards import media_table, schema
from tasks.errors import InvalidData
from tasks.refs import Problem

OUTSIDE = "objects outside the image"
"""Counted for boxes and polygons of which the steps leave nothing in their image."""


@dataclass
class Prepared:
    """Rows after the steps.

    Attributes:
        table: In the layout of the new version.
        left_out: Rows that did not come through, by reason.
        gaps: Missing or infinite values by column.
        shapes: Width, height and mode of the images.
    """

    table: pa.Table
    left_out: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    shapes: set[tuple[int, int, str]] = field(default_factory=set)


def prepared(
    partition: Partition, steps: Sequence[FittedStep], features: tuple[Feature, ...], folds: bool
) -> Prepared:
    """Apply the steps to the rows of a partition.

    Args:
        partition: The rows.
        steps: Fitted, in order.
        features: The columns after them.
        folds: Whether the new version has a column of folds.
    """
    manifest = partition.shard.manifest
    layout = schema(manifest.problem, features, manifest.label, manifest.classes)
    if manifest.problem.is_table:
        result, table = _prepared_table(partition, steps, layout)
    else:
        table = partition.read()
        ids, labels = table[ID_COLUMN].to_pylist(), table[manifest.label]
        if manifest.problem.modality == "image":
            result = _prepared_images(table, steps, manifest, layout)
        elif manifest.problem.modality == "text":
            texts = list(_texts(table, manifest, steps))
            result = Prepared(media_table(layout, ids, texts, labels.to_pylist()))
        else:
            sounds = [flac(sound) for sound in _sounds(table, manifest, steps)]
            result = Prepared(media_table(layout, ids, sounds, labels.to_pylist()))
    if folds:
        result.table = _with_folds(result.table, table, manifest, features)
    return result


def batch_of(partition: Partition, steps: Sequence[FittedStep]) -> Batch:
    """The rows of a partition as the next step is to learn from them."""
    manifest = partition.shard.manifest
    if manifest.problem.is_table:
        # Without the ids, which take as long to read as several features.
        names = [feature.name for feature in manifest.features]
        frame, table, _ = _frame(partition, steps, [*names, *manifest.label_columns])
        if not manifest.label:
            return Batch(frame)
        labels = table[manifest.label].to_numpy().astype(np.float64)
        return Batch(frame, labels, manifest.classes)
    table = partition.read()
    rows: Iterator[Any]
    if manifest.problem.modality == "image":
        rows = _images(table, manifest, steps)
    elif manifest.problem.modality == "text":
        rows = _texts(table, manifest, steps)
    else:
        rows = _sounds(table, manifest, steps)
    return Batch(rows)


def empty_batch(manifest: Manifest, steps: Sequence[FittedStep]) -> Batch:
    """A batch without rows: a table's columns as the steps leave them."""
    if not manifest.problem.is_table:
        return Batch(())
    layout = schema(manifest.problem, manifest.features, manifest.label, manifest.classes)
    frame = applied(features_of(layout.empty_table(), manifest), bound_steps(steps, TableMethod))
    return Batch(frame, np.empty(0) if manifest.label else None, manifest.classes)


def row_keys(partition: Partition, steps: Sequence[FittedStep]) -> np.ndarray:
    """uint64 [rows]: equal for texts that are equal after the steps."""
    manifest = partition.shard.manifest
    texts = _texts(partition.read(), manifest, steps)
    return digest_keys(text.encode("utf-8", "surrogatepass") for text in texts)


def _frame(
    partition: Partition, steps: Sequence[FittedStep], columns: list[str] | None = None
) -> tuple[pd.DataFrame, pa.Table, Counter[str]]:
    """Features after the steps, the stored rows that came through, and why others did not."""
    table = partition.read(columns)
    frame = features_of(table, partition.shard.manifest)
    try:
        return _prepared_frame(frame, table, partition, steps)
    except InvalidData:
        # Once more with the ids for index, which cost too much where nothing is wrong: by them the
        # message names the row.
        table = partition.read()
        frame = features_of(table, partition.shard.manifest).set_axis(table[ID_COLUMN].to_pandas(), axis=0)
        _prepared_frame(frame, table, partition, steps)
        raise


def _prepared_frame(
    frame: pd.DataFrame, table: pa.Table, partition: Partition, steps: Sequence[FittedStep]
) -> tuple[pd.DataFrame, pa.Table, Counter[str]]:
    left_out: Counter[str] = Counter()
    for method, parameters, state in bound_steps(steps, TableMethod):
        gone = method.left_out(frame, parameters, state, training=partition.split == "train")
        if gone is not None and gone.any():
            left_out[method.leaves_out] += int(gone.sum())
            table = table.filter(pa.array(~gone))
            frame = frame[~gone]
        frame = method.apply(frame, parameters, state)
    return frame, table, left_out


def _prepared_table(
    partition: Partition, steps: Sequence[FittedStep], layout: pa.Schema
) -> tuple[Prepared, pa.Table]:
    manifest = partition.shard.manifest
    frame, table, left_out = _frame(partition, steps)
    columns = [table[ID_COLUMN]]
    gaps: Counter[str] = Counter()
    for name in frame.columns:
        values = frame[name].to_numpy()
        missing = int(len(values) - np.isfinite(values).sum())
        if missing:
            gaps[str(name)] = missing
        columns.append(pa.array(values))
    columns.extend(table[name] for name in manifest.label_columns)
    return Prepared(pa.table(columns, schema=layout), left_out, gaps), table


def _prepared_images(
    table: pa.Table, steps: Sequence[FittedStep], manifest: Manifest, layout: pa.Schema
) -> Prepared:
    bound = bound_steps(steps, ImageMethod)
    follows = manifest.problem.has_objects or manifest.problem is Problem.SEMANTIC_SEGMENTATION
    labels = _labels(table, manifest)
    contents: list[bytes] = []
    result = Prepared(table)
    ids = table[ID_COLUMN].to_pylist()
    for place, content in enumerate(_files(table, manifest)):
        content, shape, moves = _transformed(ids[place], content, bound, follows)
        contents.append(content)
        result.shapes.add(shape)
        if manifest.problem.has_objects:
            for move in moves:
                labels[place], gone = moved_objects(labels[place], move)
                if gone:
                    result.left_out[OUTSIDE] += gone
        elif follows:
            labels[place] = moved_map(labels[place], moves)
    result.table = media_table(layout, ids, contents, labels)
    return result


def _labels(table: pa.Table, manifest: Manifest) -> list[Any]:
    labels = table[manifest.label]
    if manifest.problem is Problem.SEMANTIC_SEGMENTATION:
        labels = pc.struct_field(labels, "bytes")
    found: list[Any] = labels.to_pylist()
    return found


def _transformed(
    name: str, content: bytes, steps: Sequence[BoundStep[ImageMethod]], follows: bool
) -> tuple[bytes, tuple[int, int, str], list[Geometry]]:
    """An image file after the steps, as PNG; its width, height and mode; where its pixels went.

    A plain PNG file that no step would change is passed on as it is: PNG is lossless, so decoding and
    encoding it again would give other bytes for the same pixels, at fifty times the cost. JPEG never
    passes: every version after preprocessing is PNG, whose pixels do not depend on the decoder.
    """
    header = plain_png_header(content)
    if header is not None and all(
        method.keeps(header, parameters, state) for method, parameters, state in steps
    ):
        return content, (header.width_px, header.height_px, header.mode), []
    with _decoding(name):
        image = plain(open_image(content))
    moves = []
    for method, parameters, state in steps:
        move = method.geometry(image.size, parameters) if follows else None
        if move is not None:
            moves.append(move)
        image = method.apply(image, parameters, state)
    return png(image), (image.width, image.height, image.mode), moves


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Names the file at which decoding fails."""
    try:
        yield
    except UNREADABLE as error:
        raise InvalidData(
            f"A file cannot be decoded: {error}",
            where=name,
            mend="validate the version, and ingest it again without this file",
        ) from None


def _files(table: pa.Table, manifest: Manifest) -> Iterator[bytes]:
    """The encoded files of a shard, one copied at a time."""
    for chunk in pc.struct_field(table[manifest.features[0].name], "bytes").chunks:
        for content in chunk:
            yield content.as_py()


def _images(table: pa.Table, manifest: Manifest, steps: Sequence[FittedStep]) -> Iterator[Any]:
    """One image after the other; not even decoded where no step changed it and it is plain as stored."""
    bound = bound_steps(steps, ImageMethod)
    for name, content in zip(table[ID_COLUMN].to_pylist(), _files(table, manifest), strict=True):
        with _decoding(name):
            image = open_image(content)
            if bound or not is_plain(image, content):
                image = plain(image)
        yield applied(image, bound)


def _texts(table: pa.Table, manifest: Manifest, steps: Sequence[FittedStep]) -> Iterator[str]:
    bound = bound_steps(steps, TextMethod)
    for text in table[manifest.features[0].name].to_pylist():
        yield applied(text or "", bound)


def _sounds(table: pa.Table, manifest: Manifest, steps: Sequence[FittedStep]) -> Iterator[Sound]:
    bound = bound_steps(steps, AudioMethod)
    for name, content in zip(table[ID_COLUMN].to_pylist(), _files(table, manifest), strict=True):
        with _decoding(name):
            sound = decoded(content)
        yield applied(sound, bound)


def _with_folds(
    result: pa.Table, source: pa.Table, manifest: Manifest, features: tuple[Feature, ...]
) -> pa.Table:
    """With the column of folds before the label; null where rows are in none."""
    layout = schema(manifest.problem, features, manifest.label, manifest.classes, folds=True)
    if NEW_FOLD in source.column_names:
        folds = source[NEW_FOLD]
    elif manifest.folds:
        folds = source[FOLD_COLUMN]
    else:
        folds = pa.nulls(result.num_rows, pa.int64())
    columns = list(result.columns)
    columns.insert(len(columns) - len(manifest.label_columns), folds)
    return pa.table(columns, schema=layout)
