"""Parts: the rows of one shard that belong to one split, which is what a worker is given."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.data.config import SplitConfig
from tasks.data.listed import listed
from tasks.data.manifest import SPLITS, FileEntry, Manifest
from tasks.data.partitions import map_partitions
from tasks.data.read import contents_of, read_shard
from tasks.data.splits import divide
from tasks.errors import InvalidData

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class StoredShard:
    """A shard of the parent version, readable on any process."""

    url: str
    options: dict[str, Any]
    manifest: Manifest
    file: FileEntry

    def read(self) -> pa.Table:
        filesystem, folder = fsspec.core.url_to_fs(self.url, **self.options)
        return read_shard(filesystem, f"{folder}/{self.file.path}")


@dataclass(frozen=True)
class Part:
    """Rows of one shard that belong to one split; all of them where `rows` is None."""

    shard: StoredShard
    split: str
    rows: np.ndarray | None

    def read(self) -> pa.Table:
        table = self.shard.read()
        return table if self.rows is None else table.take(pa.array(self.rows))


def divided(
    shards: Sequence[StoredShard], manifest: Manifest, config: SplitConfig, client: Client | None
) -> list[Part]:
    """Shards as they are where the version has all splits; else missing splits are cut out of train."""
    if "train" not in manifest.splits:
        raise InvalidData(
            f"The version {manifest.name}@{manifest.version} has no rows to train on",
            where=f"splits {listed(list(manifest.splits))}",
            mend="add a train folder or file to the source",
        )
    percent = {"validation": config.validation_percent, "test": config.test_percent}
    missing = {split: share for split, share in percent.items() if split not in manifest.splits}
    if not missing:
        return [Part(shard, shard.file.split, None) for shard in shards]
    whole = config.train_percent + sum(missing.values())
    train = [shard for shard in shards if shard.file.split == "train"]
    keyed = map_partitions(_keys, train, client)
    keys = np.concatenate([key for key, _ in keyed])
    classes = np.concatenate([label for _, label in keyed])
    stratified = config.stratified and manifest.problem.is_classification
    shares = {split: share / whole for split, share in missing.items()}
    splits = divide(keys, classes if stratified else None, shares, config.seed)
    parts = [Part(shard, shard.file.split, None) for shard in shards if shard.file.split != "train"]
    start = 0
    for shard in train:
        of_shard = splits[start : start + shard.file.rows]
        start += shard.file.rows
        for split in ("train", *missing):
            rows = np.flatnonzero(of_shard == split)
            if len(rows):
                parts.append(Part(shard, split, rows))
    return sorted(parts, key=lambda part: (SPLITS.index(part.split), part.shard.file.path))


def _keys(shard: StoredShard) -> tuple[np.ndarray, np.ndarray]:
    """Of every row: uint64 that is equal for equal content, and the label (-1: none; 0: regression)."""
    table = shard.read()
    manifest = shard.manifest
    if manifest.problem.is_table:
        frame = table.select([feature.name for feature in manifest.features]).to_pandas()
        keys = pd.util.hash_pandas_object(frame, index=False).to_numpy(np.uint64)
    else:
        digests = (hashlib.sha256(content).digest()[:8] for content in contents_of(table))
        keys = np.frombuffer(b"".join(digests), np.uint64)
    if not manifest.problem.is_classification:
        return keys, np.zeros(len(keys), np.int64)
    return keys, table[manifest.label].fill_null(-1).to_numpy()


def features_of(table: pa.Table, manifest: Manifest) -> pd.DataFrame:
    frame: pd.DataFrame = table.select([feature.name for feature in manifest.features]).to_pandas()
    return frame
