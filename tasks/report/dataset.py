"""What is in a dataset version: counts and columns, read from the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.manifest import Manifest, split_rank
from tasks.data.read import raw_manifest, shard_tables
from tasks.data.storage.store import DatasetStore
from tasks.markdown import bytes_text, cell, number, table
from tasks.refs import Problem
from tasks.report import table_summary

COLUMN_BYTES = 16 * 2**20
"""The columns of a table are summarised from its first rows, this many bytes or one shard."""


@dataclass(frozen=True)
class DatasetSummary:
    """Counts of a version.

    Attributes:
        manifest: The version.
        counts: Rows of each class by split, in the order of the classes, or objects of each class; empty
            where rows have neither.
        unlabelled: Rows without a label.
        read_rows: Rows that the columns were summarised from.
        columns: Summary of each table column; empty where it is no table.
        raw_columns: The same before preprocessing; empty where there was none.
    """

    manifest: Manifest
    counts: dict[str, list[int]]
    unlabelled: int
    read_rows: int = 0
    columns: list[table_summary.ColumnSummary] = field(default_factory=list)
    raw_columns: list[table_summary.ColumnSummary] = field(default_factory=list)


def summarise(store: DatasetStore, manifest: Manifest) -> DatasetSummary:
    """Count classes and summarise columns. Reads labels in full, table columns up to `COLUMN_BYTES`."""
    counts: dict[str, list[int]] = {}
    unlabelled = manifest.unlabelled if manifest.problem is Problem.SEMANTIC_SEGMENTATION else 0
    for split in sorted(manifest.splits, key=split_rank):
        total = np.zeros(len(manifest.classes), np.int64)
        for labels in _labels(store, manifest, split):
            unlabelled += labels.null_count
            total += _class_counts(labels, manifest)
        if manifest.problem.is_classification or manifest.problem.has_objects:
            counts[split] = total.tolist()
    raw = raw_manifest(store, manifest)
    read_rows, columns = _columns(store, manifest)
    _, raw_columns = _columns(store, raw) if raw.version != manifest.version else (0, [])
    return DatasetSummary(manifest, counts, unlabelled, read_rows, columns, raw_columns)


def render(summary: DatasetSummary) -> str:
    """The summary as Markdown."""
    manifest = summary.manifest
    made = manifest.method + (f" of {manifest.parent}" if manifest.parent else f" from {manifest.source}")
    facts: list[list[object]] = [
        ["problem", manifest.problem.value],
        ["rows", number(manifest.rows)],
        ["splits", ", ".join(f"{name} {number(rows)}" for name, rows in manifest.splits.items())],
        ["features", cell(_features(manifest))],
        ["label", cell(manifest.label or "none")],
        ["size", f"{bytes_text(manifest.bytes)} in {len(manifest.files)} files"],
        ["made by", cell(f"{made}, {manifest.owner}")],
        ["digest", f"`{manifest.digest[:16]}…`"],
    ]
    if manifest.preprocessing:
        facts.insert(-1, ["preprocessing", cell(" → ".join(step.method for step in manifest.preprocessing))])
    if summary.unlabelled:
        facts.insert(2, ["without a label", f"**{number(summary.unlabelled)}**"])
    for reason, count in manifest.left_out.items():
        facts.insert(2, [f"left out: {cell(reason)}", f"**{number(count)}**"])
    if manifest.folds:
        facts.insert(2, ["folds for cross-validation", number(manifest.folds)])
    parts = [f"# {cell(manifest.name)}\n\nVersion `{manifest.version}`", table(["", ""], facts)]
    if summary.counts:
        splits = list(summary.counts)
        rows: list[list[object]] = []
        for index, name in enumerate(manifest.classes[:100]):
            each = [summary.counts[split][index] for split in splits]
            rows.append([cell(name), *map(number, each), number(sum(each))])
        parts += [
            "## Objects of each class" if manifest.problem.has_objects else "## Classes",
            table(["class", *splits, "all"], rows, right=[*splits, "all"]),
        ]
    if summary.raw_columns:
        parts += ["## Columns before preprocessing", table_summary.render(summary.raw_columns)]
    if summary.columns:
        after = " after preprocessing" if summary.raw_columns else ""
        parts += [f"## Columns{after}", table_summary.render(summary.columns)]
        if summary.read_rows < manifest.rows:
            parts.append(f"Columns are summarised from the first {number(summary.read_rows)} rows.")
    return "\n\n".join(parts)


def _labels(store: DatasetStore, manifest: Manifest, split: str) -> Iterator[pa.Array]:
    """The labels of each shard; maps, which are files, are not read."""
    if manifest.problem is Problem.SEMANTIC_SEGMENTATION or not manifest.label:
        return
    for part in shard_tables(store, manifest, split, [manifest.label]):
        yield part[manifest.label].combine_chunks()


def _class_counts(labels: pa.Array, manifest: Manifest) -> np.ndarray:
    classes = len(manifest.classes)
    if manifest.problem.has_objects:
        labels = pc.list_flatten(labels).field("category")
    elif not manifest.problem.is_classification:
        return np.zeros(classes, np.int64)
    indices = labels.drop_null().to_numpy().astype(np.int64)
    return np.bincount(indices, minlength=classes)


def _columns(store: DatasetStore, manifest: Manifest) -> tuple[int, list[table_summary.ColumnSummary]]:
    if not manifest.problem.is_table:
        return 0, []
    names = [feature.name for feature in manifest.features]
    wanted = names if manifest.problem.is_classification else [*names, *manifest.label_columns]
    rows = _table_rows(store, manifest, wanted)
    return rows.num_rows, table_summary.summarise(rows.to_pandas())


def _table_rows(store: DatasetStore, manifest: Manifest, columns: list[str]) -> pa.Table:
    parts, left = [], COLUMN_BYTES
    for split in manifest.splits:
        for part in shard_tables(store, manifest, split, columns):
            parts.append(part)
            left -= part.nbytes
            if left < 0:
                return pa.concat_tables(parts)
    return pa.concat_tables(parts)


def _features(manifest: Manifest, limit: int = 12) -> str:
    names = [f"{feature.name} ({feature.type})" for feature in manifest.features]
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
