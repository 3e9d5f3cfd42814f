"""What is in a dataset version: counts, columns and a few samples, read from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from tasks.data.images import open_image
from tasks.data.manifest import ID_COLUMN, IMAGE_COLUMN, SPLITS, Manifest
from tasks.data.read import contents_of, raw_manifest, shard_tables
from tasks.data.store import DatasetStore
from tasks.report import table_summary
from tasks.report.markdown import bytes_text, cell, number, table

SAMPLES = 16
SAMPLES_BESIDE_RAW = 8
READ_BYTES = 64 * 2**20
"""Most that is read of image shards for samples, and of table shards for the columns' summary."""


@dataclass(frozen=True)
class ImageSamples:
    """A few images of a version, with their raw form where the version was preprocessed.

    Attributes:
        images: The samples as the version holds them.
        captions: Their classes.
        before: The same samples as they were ingested; None for an ingested version.
    """

    images: list[Image.Image]
    captions: list[str]
    before: list[Image.Image] | None


@dataclass(frozen=True)
class DatasetSummary:
    """Counts of a version.

    Attributes:
        manifest: The version.
        counts: Samples of each class by split, in the order of the classes; empty for regression.
        unlabelled: Rows without a label.
        columns: Summary of each table column; empty for images.
        raw_columns: The same before preprocessing; empty where there was none.
    """

    manifest: Manifest
    counts: dict[str, list[int]]
    unlabelled: int
    columns: list[table_summary.ColumnSummary] = field(default_factory=list)
    raw_columns: list[table_summary.ColumnSummary] = field(default_factory=list)


def summarise(store: DatasetStore, manifest: Manifest) -> DatasetSummary:
    """Count classes and summarise columns. Reads labels in full, table columns up to `READ_BYTES`."""
    counts: dict[str, list[int]] = {}
    unlabelled = 0
    for split in sorted(manifest.splits, key=_rank):
        labels = _column(store, manifest, split, manifest.label)
        unlabelled += labels.null_count
        if manifest.problem.is_classification:
            indices = labels.drop_null().to_numpy().astype(np.int64)
            counts[split] = np.bincount(indices, minlength=len(manifest.classes)).tolist()
    raw = raw_manifest(store, manifest)
    columns = _columns(store, manifest)
    raw_columns = _columns(store, raw) if raw.version != manifest.version else []
    return DatasetSummary(manifest, counts, unlabelled, columns, raw_columns)


def render(summary: DatasetSummary) -> str:
    """The summary as Markdown."""
    manifest = summary.manifest
    made = manifest.method + (f" of {manifest.parent}" if manifest.parent else f" from {manifest.source}")
    facts: list[list[object]] = [
        ["problem", manifest.problem.value],
        ["rows", number(manifest.rows)],
        ["splits", ", ".join(f"{name} {number(rows)}" for name, rows in manifest.splits.items())],
        ["features", cell(_features(manifest))],
        ["label", cell(manifest.label)],
        ["size", f"{bytes_text(manifest.bytes)} in {len(manifest.files)} files"],
        ["made by", cell(made)],
        ["digest", f"`{manifest.digest[:16]}…`"],
    ]
    if manifest.preprocessing:
        facts.insert(-1, ["preprocessing", cell(" → ".join(step.method for step in manifest.preprocessing))])
    if summary.unlabelled:
        facts.insert(2, ["without a label", f"**{number(summary.unlabelled)}**"])
    parts = [f"# {cell(manifest.name)}\n\nVersion `{manifest.version}`", table(["", ""], facts)]
    if summary.counts:
        splits = list(summary.counts)
        rows: list[list[object]] = []
        for index, name in enumerate(manifest.classes[:100]):
            each = [summary.counts[split][index] for split in splits]
            rows.append([cell(name), *map(number, each), number(sum(each))])
        parts += ["## Classes", table(["class", *splits, "all"], rows, right=[*splits, "all"])]
    if summary.raw_columns:
        parts += ["## Columns before preprocessing", table_summary.render(summary.raw_columns)]
    if summary.columns:
        after = " after preprocessing" if summary.raw_columns else ""
        parts += [f"## Columns{after}", table_summary.render(summary.columns)]
    return "\n\n".join(parts)


def image_samples(store: DatasetStore, manifest: Manifest, *, split: str, seed: int = 0) -> ImageSamples:
    """Draw a few samples of a split, taking the classes in turn."""
    raw = raw_manifest(store, manifest)
    preprocessed = raw.version != manifest.version
    chosen = _draw(store, manifest, split, SAMPLES_BESIDE_RAW if preprocessed else SAMPLES, seed)
    after = _images(store, manifest, list(chosen), [split])
    before = _images(store, raw, list(chosen), list(raw.splits)) if preprocessed else after
    shown = [identity for identity in chosen if identity in after and identity in before]
    return ImageSamples(
        images=[after[identity] for identity in shown],
        captions=[chosen[identity] for identity in shown],
        before=[before[identity] for identity in shown] if preprocessed else None,
    )


def _draw(store: DatasetStore, manifest: Manifest, split: str, count: int, seed: int) -> dict[str, str]:
    """Ids and captions of random rows: one of each class, then a second of each, and so on."""
    ids = _column(store, manifest, split, ID_COLUMN).to_pylist()
    labels = _column(store, manifest, split, manifest.label).to_pylist()
    order = np.random.default_rng(seed).permutation(len(ids)).tolist()
    turns: dict[int | None, int] = {}
    ranked = []
    for position in order:
        label = labels[position]
        turns[label] = turns.get(label, 0) + 1
        ranked.append((turns[label], -1 if label is None else label, position))
    return {
        ids[position]: manifest.classes[label] if label >= 0 else "no label"
        for _, label, position in sorted(ranked)[:count]
    }


def _images(
    store: DatasetStore, manifest: Manifest, ids: Sequence[str], splits: Sequence[str]
) -> dict[str, Image.Image]:
    """Decode the images with these ids; row groups beyond `READ_BYTES` in all are left out."""
    found: dict[str, Image.Image] = {}
    wanted, left = pa.array(ids, pa.string()), READ_BYTES
    folder = store.folder(manifest.name, manifest.version)
    for split in splits:
        for file in manifest.files_of(split):
            if len(found) == len(ids):
                return found
            with store.fs.open(f"{folder}/{file.path}", "rb") as handle:
                shard = pq.ParquetFile(handle)
                for group in range(shard.num_row_groups):
                    names = shard.read_row_group(group, columns=[ID_COLUMN])[ID_COLUMN]
                    mask = pc.is_in(names, value_set=wanted)
                    cost = shard.metadata.row_group(group).total_byte_size
                    if not pc.any(mask).as_py() or (cost > left and found):
                        continue
                    left -= cost
                    rows = shard.read_row_group(group, columns=[ID_COLUMN, IMAGE_COLUMN]).filter(mask)
                    for identity, content in zip(rows[ID_COLUMN].to_pylist(), contents_of(rows), strict=True):
                        image = open_image(content)
                        image.load()
                        found[identity] = image
    return found


def _columns(store: DatasetStore, manifest: Manifest) -> list[table_summary.ColumnSummary]:
    if not manifest.problem.is_table:
        return []
    names = [feature.name for feature in manifest.features]
    wanted = names if manifest.problem.is_classification else [*names, manifest.label]
    return table_summary.summarise(_table_rows(store, manifest, wanted).to_pandas())


def _table_rows(store: DatasetStore, manifest: Manifest, columns: list[str]) -> pa.Table:
    parts, left = [], READ_BYTES
    for split in manifest.splits:
        for part in shard_tables(store, manifest, split, columns):
            parts.append(part)
            left -= part.nbytes
            if left < 0:
                return pa.concat_tables(parts)
    return pa.concat_tables(parts)


def _column(store: DatasetStore, manifest: Manifest, split: str, name: str) -> pa.ChunkedArray:
    return pa.concat_tables(list(shard_tables(store, manifest, split, [name])))[name]


def _features(manifest: Manifest, limit: int = 12) -> str:
    names = [f"{feature.name} ({feature.type})" for feature in manifest.features]
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _rank(split: str) -> int:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)
