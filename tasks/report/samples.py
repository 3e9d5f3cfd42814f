"""Random rows of a version, and the same rows before preprocessing: no more is read than is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from tasks.data.manifest import ID_COLUMN, Manifest
from tasks.data.read import raw_manifest, shard_tables
from tasks.data.storage.store import DatasetStore
from tasks.errors import NotFound
from tasks.report.annotated import captioned, pictured

SAMPLES = 16
SAMPLES_BESIDE_RAW = 8
READ_BYTES = 64 * 2**20
"""Most that is read of shards for samples: row groups beyond that are left out."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Samples:
    """A few rows.

    Attributes:
        manifest: The version.
        rows: The rows as the version holds them, in the order in which they were drawn.
        raw: The version whose rows are raw.
        before: The same rows there; None where the version is raw itself, or nobody asked.
    """

    manifest: Manifest
    rows: list[Row]
    raw: Manifest
    before: list[Row] | None


@dataclass(frozen=True)
class ImageSamples:
    """A few images of a version, with their raw form where the version was preprocessed.

    Attributes:
        images: The samples as the version holds them; boxes and maps are drawn into them.
        captions: Their classes.
        before: The same samples as they were ingested; None for an ingested version.
    """

    images: list[Image.Image]
    captions: list[str]
    before: list[Image.Image] | None


def usual_split(manifest: Manifest) -> str:
    """The training split, or else the first that has rows."""
    return "train" if manifest.splits.get("train") else next(name for name, n in manifest.splits.items() if n)


def image_samples(store: DatasetStore, manifest: Manifest, *, split: str, seed: int = 0) -> ImageSamples:
    """Draw a few images of a split, taking the classes in turn."""
    beside = raw_manifest(store, manifest).version != manifest.version
    return as_images(draw(store, manifest, split, SAMPLES_BESIDE_RAW if beside else SAMPLES, seed))


def as_images(samples: Samples) -> ImageSamples:
    """Decode the rows of a version of images."""
    return ImageSamples(
        images=[pictured(row, samples.manifest) for row in samples.rows],
        captions=[captioned(row, samples.manifest) for row in samples.rows],
        before=None if samples.before is None else [pictured(row, samples.raw) for row in samples.before],
    )


def draw(
    store: DatasetStore,
    manifest: Manifest,
    split: str,
    count: int,
    seed: int = 0,
    label: str | None = None,
    before: bool = True,
) -> Samples:
    """Draw rows of a split: one of each class, then a second of each, and so on.

    Args:
        store: The store.
        manifest: The version.
        split: Its split.
        count: How many rows.
        seed: The same seed draws the same rows.
        label: Only rows of this class, or with an object of it.
        before: Whether to find the same rows before preprocessing.

    Raises:
        NotFound: The version has no such split or class, or the split no such row.
    """
    if not manifest.splits.get(split):
        raise NotFound(
            f"{manifest.name}@{manifest.version} has no rows in a split named {split}",
            allowed=", ".join(manifest.splits),
        )
    positions = _in_turn(_codes(store, manifest, split, label), count, np.random.default_rng(seed))
    if not len(positions):
        raise NotFound(f"No row of {manifest.name}@{manifest.version} has the label {label} in {split}")
    rows = _at(store, manifest, split, positions)
    raw = raw_manifest(store, manifest)
    if not before or raw.version == manifest.version:
        return Samples(manifest, rows, raw, None)
    found = rows_of_ids(store, raw, [row[ID_COLUMN] for row in rows])
    both = [row for row in rows if row[ID_COLUMN] in found]
    return Samples(manifest, both, raw, [found[row[ID_COLUMN]] for row in both])


def _codes(store: DatasetStore, manifest: Manifest, split: str, label: str | None) -> Iterator[np.ndarray]:
    """An integer for each row, shard by shard: its class, -1 for none, -2 for a row nobody asked for."""
    wanted = None if label is None else _index(manifest, label)
    if wanted is None and not manifest.problem.is_classification:
        yield from (np.zeros(file.rows, np.int64) for file in manifest.files_of(split))
        return
    for table in shard_tables(store, manifest, split, [manifest.label]):
        values = table[manifest.label].combine_chunks()
        if manifest.problem.is_classification:
            codes = pc.fill_null(values, -1).to_numpy(zero_copy_only=False).astype(np.int64)
            if wanted is not None:
                codes[codes != wanted] = -2
        else:
            codes = np.full(len(values), -2, np.int64)
            rows = pc.list_parent_indices(values).to_numpy()
            codes[rows[pc.list_flatten(values).field("category").to_numpy() == wanted]] = 0
        yield codes


def _index(manifest: Manifest, label: str) -> int:
    by_class = manifest.problem.is_classification or manifest.problem.has_objects
    if by_class and label in manifest.classes:
        return manifest.classes.index(label)
    raise NotFound(
        f"{manifest.name}@{manifest.version} has no rows that can be chosen by a class named {label}",
        allowed=", ".join(manifest.classes[:20]) or "no label: it has no classes",
    )


def _in_turn(parts: Iterable[np.ndarray], count: int, random: np.random.Generator) -> np.ndarray:
    """Positions of `count` random rows, the classes in turn; holds one part and the best rows before it."""
    codes, positions = np.empty(0, np.int64), np.empty(0, np.int64)
    draws = np.empty(0)
    start = 0
    for part in parts:
        asked = np.flatnonzero(part > -2)
        codes = np.concatenate([codes, part[asked]])
        positions = np.concatenate([positions, asked + start])
        draws = np.concatenate([draws, random.random(len(part))[asked]])
        start += len(part)
        order = np.lexsort((draws, codes))  # by class, at random within
        order = order[_turns(codes[order]) < count]
        codes, positions, draws = codes[order], positions[order], draws[order]
    return positions[np.argsort(_turns(codes), kind="stable")][:count]


def _turns(codes: np.ndarray) -> np.ndarray:
    """How many of its class stand before each row, where the rows are sorted by class."""
    _, first, sizes = np.unique(codes, return_index=True, return_counts=True)
    return np.arange(len(codes)) - np.repeat(first, sizes)


def _at(store: DatasetStore, manifest: Manifest, split: str, positions: np.ndarray) -> list[Row]:
    """The rows at these positions of a split, in that order."""
    found: dict[int, Row] = {}
    left, start = READ_BYTES, 0
    for shard in store.shards(manifest, split):
        begin, end = start, start + shard.file.rows
        here = positions[(positions >= begin) & (positions < end)]
        if len(here):
            with shard.opened(ahead=True) as file:
                for group in range(file.num_row_groups):
                    about = file.metadata.row_group(group)
                    inside = here[(here >= begin) & (here < begin + about.num_rows)]
                    if len(inside) and (about.total_byte_size <= left or not found):
                        left -= about.total_byte_size
                        rows = file.read_row_group(group).take(pa.array(inside - begin))
                        found.update(zip(inside.tolist(), rows.to_pylist(), strict=True))
                    begin += about.num_rows
        start = end
    return [found[position] for position in positions.tolist() if position in found]


def rows_of_ids(store: DatasetStore, manifest: Manifest, ids: Sequence[str]) -> dict[str, Row]:
    """The rows with these ids, wherever in the version they are."""
    found: dict[str, Row] = {}
    wanted, left = pa.array(ids, pa.string()), READ_BYTES
    for shard in store.shards(manifest):
        if len(found) == len(ids):
            return found
        with shard.opened(ahead=True) as file:
            for group in range(file.num_row_groups):
                names = file.read_row_group(group, columns=[ID_COLUMN])[ID_COLUMN]
                mask = pc.is_in(names, value_set=wanted)
                cost = file.metadata.row_group(group).total_byte_size
                if not pc.any(mask).as_py() or (cost > left and found):
                    continue
                left -= cost
                for row in file.read_row_group(group).filter(mask).to_pylist():
                    found[row[ID_COLUMN]] = row
    return found
