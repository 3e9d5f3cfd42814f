"""Dataset versions as folders of files, in the layout that they came in: what the code is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from tasks.data.layouts import layout_named
from tasks.data.layouts.exported import names_file
from tasks.data.layouts.layout import StoredVersion
from tasks.data.manifest import Manifest
from tasks.data.origins import INGESTED, origin_of
from tasks.data.read import shard_tables
from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged
from tasks.refs import DatasetRef

TEST = "test"


def write_dataset(
    store: DatasetStore, ref: DatasetRef, folder: Path, splits: Sequence[str] | None = None
) -> None:
    """Write a version's rows below a folder.

    Images, texts and sounds come in the layout in which they were ingested (`train/<label>/1.png`), with
    the pixels of this version. Tables come as `train.csv`, `validation.csv`, `test.csv` (or .parquet, if
    they came so): the feature columns, and the label last, if there is one.

    Args:
        store: Where the version is.
        ref: The version.
        folder: Made where it is missing.
        splits: Only these; None for all.
    """
    manifest = store.open(ref)
    chosen = [name for name, rows in manifest.splits.items() if rows and (splits is None or name in splits)]
    folder.mkdir(parents=True, exist_ok=True)
    origin = origin_of(store, manifest)
    if manifest.problem.is_table:
        _write_tables(store, manifest, origin, folder, chosen)
        return

    def tables(split: str) -> Iterator[pa.Table]:
        return shard_tables(store, manifest, split)

    stored = StoredVersion(manifest=manifest, origin=origin, splits=chosen, tables=tables)
    layout = layout_named(origin.method.removeprefix(INGESTED), manifest.problem)
    made: set[Path] = set()
    for path, blocks in layout.export(stored):
        target = folder / path
        if ".." in target.parts:
            raise Damaged(f"the name {path} leads out of the folder", where=str(ref), mend="ingest it again")
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        with target.open("wb") as file:
            for block in blocks:
                file.write(block)


def class_orders(store: DatasetStore, ref: DatasetRef) -> tuple[bool, tuple[str, ...]]:
    """Whether the labels stand in the files as numbers, and the class names in the order of the labels."""
    manifest = store.open(ref)
    return bool(origin_of(store, manifest).parameters.get("integer_labels")), tuple(manifest.classes)


def _write_tables(
    store: DatasetStore, manifest: Manifest, origin: Manifest, folder: Path, splits: Sequence[str]
) -> None:
    """Plain files without ids, so that `drop(columns=label)` leaves the features."""
    parquet = origin.parameters.get("file_format") == "parquet"
    names = [feature.name for feature in manifest.features]
    by_name = manifest.problem.is_classification and not origin.parameters.get("integer_labels")
    classes = pa.array(manifest.classes, pa.string())
    for split in splits:
        writer: pq.ParquetWriter | arrow_csv.CSVWriter | None = None
        for table in shard_tables(store, manifest, split, [*names, *manifest.label_columns]):
            columns = {name: table[name] for name in names}
            for label in manifest.label_columns:
                labels = table[label].combine_chunks()
                columns[label] = classes.take(labels) if by_name else labels
            rows = pa.table(columns)
            if writer is None:
                path = folder / f"{split}.{'parquet' if parquet else 'csv'}"
                writer = (pq.ParquetWriter if parquet else arrow_csv.CSVWriter)(path, rows.schema)
            writer.write(rows)
        if writer is not None:
            writer.close()
    if manifest.classes:
        name, blocks = names_file(manifest.classes)
        (folder / name).write_bytes(b"".join(blocks))
