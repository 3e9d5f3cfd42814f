"""Small dataset versions put straight into a store, for tests of what comes after ingest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from tasks.data.manifest import Feature, FittedStep
from tasks.data.shards import media_table, schema
from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef, Problem
from tests.helpers.random_images import encoded


def png(value: int, side_px: int = 8) -> bytes:
    """A grey square of one brightness with a bright corner, so that it is upright."""
    pixels = np.full((side_px, side_px), value, np.uint8)
    pixels[: side_px // 4, : side_px // 4] = 255
    return encoded(Image.fromarray(pixels))


def image_table(
    ids: list[str], contents: list[bytes], labels: list[int | None], classes: tuple[str, ...]
) -> pa.Table:
    """Rows of image classification."""
    features = (Feature(name="image", type="image"),)
    layout = schema(Problem.IMAGE_CLASSIFICATION, features, "label", classes)
    return media_table(layout, ids, contents, labels)


def store_images(
    store: DatasetStore,
    name: str,
    rows: dict[str, list[tuple[str, int | None]]],
    classes: tuple[str, ...],
    *,
    parent: str | None = None,
    side_px: int = 8,
) -> DatasetRef:
    """Store a version with one shard a split.

    Args:
        store: Where to.
        name: Dataset.
        rows: (id, label) by split; a label of None is a row without one.
        classes: Class names.
        parent: Version that this one is said to be made from.
        side_px: Width and height of the images.
    """
    with store.writer(name) as writer:
        files = []
        for split, pairs in rows.items():
            contents = [png(20 * (index % 10), side_px) for index in range(len(pairs))]
            table = image_table([key for key, _ in pairs], contents, [label for _, label in pairs], classes)
            files.append(writer.target.write(split, 0, 1, table))
        return writer.commit(
            files, problem=Problem.IMAGE_CLASSIFICATION, features=(Feature(name="image", type="image"),),
            label="label", classes=classes, parent=parent, method="preprocess" if parent else "ingest:test",
            parameters={}, preprocessing=(FittedStep(method="resize"),) if parent else (), source="test",
        )  # fmt: skip


def store_table(
    store: DatasetStore,
    name: str,
    frames: dict[str, pd.DataFrame],
    problem: Problem,
    classes: tuple[str, ...] = (),
    label: str = "label",
) -> DatasetRef:
    """Store a table version with one shard a split; columns of text are categorical."""
    first = next(iter(frames.values()))
    features = tuple(_feature(first[column]) for column in first.columns if column != label)
    layout = schema(problem, features, label, classes)
    with store.writer(name) as writer:
        files = []
        for split, frame in frames.items():
            whole = frame.assign(id=[f"{name}.csv#{split}{row}" for row in range(len(frame))])
            table = pa.Table.from_pandas(whole, schema=layout, preserve_index=False)
            files.append(writer.target.write(split, 0, 1, table))
        return writer.commit(
            files, problem=problem, features=features, label=label, classes=classes, parent=None,
            method="ingest:test", parameters={}, preprocessing=(), source="test.csv",
        )  # fmt: skip


def _feature(values: pd.Series) -> Feature:
    if pd.api.types.is_numeric_dtype(values):
        return Feature(name=str(values.name), type="numeric")
    seen = tuple(sorted(values.dropna().unique()))
    return Feature(name=str(values.name), type="categorical", categories=seen)
