"""Versions of every problem put straight into a store, cut into shards wherever a test wants."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from tasks.data.manifest import Feature
from tasks.data.shards import media_table, schema
from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef, Problem
from tests.helpers.random_images import encoded, picture

FEATURE_OF = {
    "image": Feature(name="image", type="image"),
    "text": Feature(name="text", type="text"),
    "audio": Feature(name="audio", type="audio"),
}
LABEL_OF = {
    Problem.OBJECT_DETECTION: "objects",
    Problem.INSTANCE_SEGMENTATION: "objects",
    Problem.SEMANTIC_SEGMENTATION: "seg_map",
}

Row = tuple[str, Any, Any]
"""Id, content (file or text) and label of a row of media."""


def store_tables(
    store: DatasetStore,
    tables: Mapping[str, Sequence[pa.Table]],
    problem: Problem,
    features: Sequence[Feature],
    classes: Sequence[str] = (),
    label: str = "label",
    name: str = "pieces",
) -> DatasetRef:
    """Store the shards of each split as they are."""
    with store.writer(name) as writer:
        files = [
            writer.target.write(split, index, len(shards), shard)
            for split, shards in tables.items()
            for index, shard in enumerate(shards)
        ]
        return writer.commit(
            files, problem=problem, features=tuple(features), label=label, classes=tuple(classes),
            parent=None, method="ingest:test", parameters={}, preprocessing=(), source="test",
        )  # fmt: skip


def store_media(
    store: DatasetStore,
    rows: Mapping[str, Sequence[Row]],
    problem: Problem,
    classes: Sequence[str],
    *,
    cuts: Sequence[int] = (),
    name: str = "pieces",
) -> DatasetRef:
    """Store rows of files or texts, with a new shard at each of the cuts of a split."""
    features = (FEATURE_OF[problem.modality],)
    label = LABEL_OF.get(problem, "label")
    layout = schema(problem, features, label, classes)
    tables = {}
    for split, each in rows.items():
        ids, contents, labels = ([row[place] for row in each] for place in range(3))
        tables[split] = cut(media_table(layout, ids, contents, labels), cuts)
    return store_tables(store, tables, problem, features, classes, label, name)


def cut(table: pa.Table, cuts: Sequence[int]) -> list[pa.Table]:
    """The table in pieces, a new one at each of the cuts; none is empty."""
    edges = [0, *sorted({one for one in cuts if 0 < one < table.num_rows}), table.num_rows]
    return [table.slice(low, high - low) for low, high in itertools.pairwise(edges)]


def image(seed: int, width: int = 8, height: int = 8, mode: str = "L", format: str = "PNG") -> bytes:  # noqa: A002
    """An image file of random pixels, the same for the same seed."""
    return encoded(picture(seed, width, height, mode), format)


def seg_map(values: Sequence[Sequence[int]]) -> bytes:
    """A segmentation map."""
    return encoded(Image.fromarray(np.array(values, np.uint8)))


def box(category: int, x: float, y: float, width: float, height: float, **more: Any) -> dict[str, Any]:
    """An object of a detection."""
    return {
        "bbox": [x, y, width, height],
        "category": category,
        "area": width * height,
        "iscrowd": False,
        **more,
    }
