"""Which rows of a version go on, and into which split and fold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.config import SplitConfig
from tasks.data.listed import listed
from tasks.data.manifest import ID_COLUMN, SPLITS, Manifest
from tasks.data.partitions import Progress, each_partition, silent
from tasks.data.preparation.partition import Partition
from tasks.data.preparation.splits import divide
from tasks.data.row_keys import content_keys
from tasks.data.shards import Shard
from tasks.errors import InvalidData, InvalidSettings

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Division:
    """The rows of the new version.

    Attributes:
        partitions: In the order of the splits; rows without a label are in none.
        unlabelled: How many rows have no label.
        folds: How many folds the training rows are in; 0: none.
    """

    partitions: list[Partition]
    unlabelled: int
    folds: int


@dataclass(frozen=True)
class _Seen:
    """What has to be known of a shard's rows to divide them.

    Attributes:
        labelled: bool [rows]: whether there is a label; None where all have one.
        keys: uint64 [rows with label]: equal for rows that stay together; empty if not asked for.
        classes: int32 [rows with label]; empty if not asked for.
        groupless: Some rows that are in no group, and how many there are.
    """

    labelled: np.ndarray | None
    keys: np.ndarray
    classes: np.ndarray
    groupless: tuple[Sequence[str], int]


def divided(
    shards: Sequence[Shard],
    manifest: Manifest,
    config: SplitConfig,
    client: Client | None,
    progress: Progress = silent,
) -> Division:
    """Splits as they are where the version has all; else those that miss are cut out of train.

    With folds there is no validation split: its rows, if the version has such, are trained on.

    Raises:
        InvalidData: There are no labelled rows to train on, or too few to divide; a row has no group.
        InvalidSettings: The group is no column, or no regular expression.
    """
    where = f"splits {listed(list(manifest.splits))} of {manifest.name}@{manifest.version}"
    if not manifest.splits.get("train"):
        raise InvalidData(
            "The version has no rows to train on",
            where=where,
            mend="add a train folder or file to the source",
        )
    percent = {"test": config.test_percent}
    folded = config.folds > 0 or manifest.folds > 0  # a version that has folds keeps them
    new_folds = config.folds if config.folds not in (0, manifest.folds) else 0
    if new_folds == 1:
        raise InvalidSettings(
            "One fold is no division", where="preprocess.split.folds", allowed="0 for none, or 2 to 20"
        )
    if not folded:
        percent = {"validation": config.validation_percent, **percent}
    shares = {split: share for split, share in percent.items() if split not in manifest.splits}
    trained = {"train", "validation"} if folded else {"train"}
    keyed = bool(shares or new_folds)
    if keyed and config.group_by is not None:
        _check_group(config.group_by, manifest)
    classed = config.stratified and manifest.problem.is_classification
    cut_up = frozenset(trained if keyed else ())
    look = partial(_look, group_by=config.group_by, cut_up=cut_up, classed=classed)
    seen: list[_Seen] = []
    # Filled as the answers come: rows may be so many that their keys should not lie here twice.
    most = sum(shard.file.rows for shard in shards if shard.file.split in cut_up)
    keys = np.empty(most, np.uint64)
    classes = np.empty(most if classed else 0, np.int32)
    rows_seen = 0
    for done, one in enumerate(each_partition(look, shards, client), 1):
        here = slice(rows_seen, rows_seen + len(one.keys))
        rows_seen = here.stop
        keys[here] = one.keys
        classes[here] = one.classes
        seen.append(replace(one, keys=keys[:0], classes=classes[:0]))
        progress(done, len(shards))
    keys, classes = keys[:rows_seen], classes[:rows_seen]
    _refuse_groupless(seen, config, where)
    unlabelled = sum(0 if one.labelled is None else int((~one.labelled).sum()) for one in seen)
    _refuse_unlabelled(shards, seen, where)
    partitions: list[Partition] = []
    if not keyed:
        for shard, one in zip(shards, seen, strict=True):
            rows = None if one.labelled is None else np.flatnonzero(one.labelled).astype(np.int32)
            partitions.append(
                Partition(shard, "train" if shard.file.split in trained else shard.file.split, rows)
            )
        return Division(_ordered(partitions), unlabelled, manifest.folds)

    splits = np.zeros(len(keys), np.int8)
    what = "rows" if config.group_by is None else "groups"
    if shares:
        kept_percent = config.train_percent + (config.validation_percent if folded else 0)
        whole = kept_percent + sum(shares.values())
        wanted = {split: share / whole for split, share in shares.items()}
        splits = divide(keys, classes if classed else None, wanted, config.seed, what=what)
    folds: np.ndarray | None = None
    if new_folds:
        folds = np.full(len(keys), -1, np.int8)
        train = splits == 0
        equal = {f"fold {fold}": 1 / new_folds for fold in range(1, new_folds)}
        of_train = classes[train] if classed else None
        folds[train] = divide(keys[train], of_train, equal, config.seed + 1, "fold 0", what)
    del keys, classes
    start = 0
    for shard, one in zip(shards, seen, strict=True):
        labelled = np.arange(shard.file.rows) if one.labelled is None else np.flatnonzero(one.labelled)
        if shard.file.split not in cut_up:
            rows = None if one.labelled is None else labelled.astype(np.int32)
            partitions.append(Partition(shard, shard.file.split, rows))
            continue
        of_shard = slice(start, start + len(labelled))
        start += len(labelled)
        for place, split in enumerate(("train", *shares)):
            chosen = np.flatnonzero(splits[of_shard] == place)
            of_fold = folds[of_shard][chosen] if folds is not None and split == "train" else None
            partitions.append(Partition(shard, split, labelled[chosen].astype(np.int32), of_fold))
    return Division(_ordered(partitions), unlabelled, new_folds or manifest.folds)


def _ordered(partitions: Sequence[Partition]) -> list[Partition]:
    full = [partition for partition in partitions if partition.count]
    return sorted(full, key=lambda partition: (SPLITS.index(partition.split), partition.shard.file.path))


def _look(shard: Shard, group_by: str | None, cut_up: frozenset[str], classed: bool) -> _Seen:
    """Look through the rows of one shard, and at their contents if its split is one that is cut up."""
    manifest, keyed = shard.manifest, shard.file.split in cut_up
    columns = manifest.label_columns or [ID_COLUMN]
    if keyed:
        features = [feature.name for feature in manifest.features]
        grouped_files = group_by is not None and not manifest.problem.is_table
        columns = [ID_COLUMN, *([] if grouped_files else features), *manifest.label_columns]
    table = shard.read(columns)
    there = _labelled(table, manifest)
    labelled = None if there.all() else there
    classes = np.empty(0, np.int32)
    if not keyed:
        return _Seen(labelled, np.empty(0, np.uint64), classes, ([], 0))
    if labelled is not None:
        table = table.filter(pa.array(labelled))
    keys, groupless = _keys(table, manifest, group_by)
    if classed:
        classes = table[manifest.label].to_numpy().astype(np.int32)
    return _Seen(labelled, keys, classes, groupless)


def _labelled(table: pa.Table, manifest: Manifest) -> np.ndarray:
    """Which rows have a label, or need none: bool [rows]."""
    if not manifest.label:
        return np.ones(table.num_rows, bool)
    labels = table[manifest.label]
    there: np.ndarray = pc.is_valid(labels).to_numpy()
    if pa.types.is_floating(labels.type):
        there &= ~np.isnan(labels.to_numpy())
    return there


def _keys(
    table: pa.Table, manifest: Manifest, group_by: str | None
) -> tuple[np.ndarray, tuple[Sequence[str], int]]:
    """Of every row uint64 that is equal for equal content, or for the same group."""
    if group_by is not None:
        if manifest.problem.is_table:
            groups = table[group_by].to_pandas()
        else:
            pattern = re.compile(group_by)
            groups = pd.Series(
                [_group(pattern, str(key)) for key in table[ID_COLUMN].to_pylist()], dtype="str"
            )
        lone = groups.isna().to_numpy()
        names = table[ID_COLUMN].filter(pa.array(lone)).slice(0, 5).to_pylist()
        keys = pd.util.hash_pandas_object(groups, index=False).to_numpy(np.uint64)
        return keys, (names, int(lone.sum()))
    return content_keys(table, manifest), ([], 0)


def _group(pattern: re.Pattern[str], name: str) -> str | None:
    found = pattern.search(name)
    if found is None:
        return None
    return found[1] if pattern.groups else found[0]


def _check_group(group_by: str, manifest: Manifest) -> None:
    if manifest.problem.is_table:
        columns = [ID_COLUMN, *(feature.name for feature in manifest.features)]
        if group_by not in columns:
            raise InvalidSettings(
                f"There is no column {group_by} to group rows by",
                where="preprocess.split.group_by",
                allowed=listed(columns, 50),
            )
        return
    try:
        re.compile(group_by)
    except re.error as error:
        raise InvalidSettings(
            f"{group_by!r} is no regular expression: {error}",
            where="preprocess.split.group_by",
            allowed="a pattern whose first group is the row's group, such as (patient\\d+)_",
        ) from None


def _refuse_groupless(seen: Sequence[_Seen], config: SplitConfig, where: str) -> None:
    count = sum(one.groupless[1] for one in seen)
    if count:
        names = [name for one in seen for name in one.groupless[0]]
        raise InvalidData(
            f"{count:,} rows are in no group by {config.group_by}: {', '.join(names[:5])}"
            + (f" and {count - 5:,} more" if count > 5 else ""),
            where=where,
            mend="give every row a value, correct preprocess.split.group_by, or leave it empty",
        )


def _refuse_unlabelled(shards: Sequence[Shard], seen: Sequence[_Seen], where: str) -> None:
    """Refuse a split in which no row has a label."""
    left: dict[str, int] = {}
    for shard, one in zip(shards, seen, strict=True):
        rows = shard.file.rows if one.labelled is None else int(one.labelled.sum())
        left[shard.file.split] = left.get(shard.file.split, 0) + rows
    bare = [split for split, rows in left.items() if not rows]
    if bare:
        raise InvalidData(
            f"No row of {listed(bare)} has a label",
            where=where,
            mend="label them, or take them out of the source",
        )
