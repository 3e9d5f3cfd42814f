"""Rows of a source added to those of a version: shards are taken over, and no id is there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.listed import listed
from tasks.data.manifest import ID_COLUMN, FileEntry, Manifest
from tasks.data.partitions import map_partitions
from tasks.data.row_keys import id_keys
from tasks.data.shards import Shard, ShardTarget, shard_path
from tasks.data.storage.store import LATEST_RAW, DatasetStore
from tasks.data.unions import Form, Union
from tasks.errors import Damaged, InvalidData, Unavailable

if TYPE_CHECKING:
    from distributed import Client

MOST_NAMED = 20
"""A refusal names so many rows."""


@dataclass(frozen=True)
class Grown:
    """The shards of a version that rows were added to.

    Attributes:
        files: The shards, old and new.
        added: How many rows are new.
        same: How many were there already.
        same_unlabelled: How many of those have no label.
    """

    files: list[FileEntry]
    added: int
    same: int
    same_unlabelled: int

    def about(self, union: Union, new: Mapping[str, Any]) -> dict[str, Any]:
        """What the manifest says of all rows together.

        Args:
            union: The version from before, and what comes to it.
            new: What the manifest would say of the new rows alone.
        """
        base = union.base
        parameters = {**new["parameters"], **union.parameters, "rows_added": self.added}
        if self.same:
            parameters["rows_already_there"] = self.same
        if union.new.folder:
            parameters["add_folder"] = union.new.folder
        return {
            "features": union.features,
            "classes": union.classes,
            "unlabelled": base.unlabelled + new["unlabelled"] - self.same_unlabelled,
            "left_out": dict(Counter(base.left_out) + Counter(new["left_out"])),
            "parent": base.version,
            "parameters": parameters,
        }


def grow(
    union: Union,
    store: DatasetStore,
    target: ShardTarget,
    added: Sequence[tuple[FileEntry, np.ndarray]],
    counts: Mapping[str, int],
    client: Client | None,
) -> Grown:
    """Put the rows of the version beside those that are added, which are written already.

    Rows that are there already, the same in all columns and in split, are kept once. Only hashes of ids
    come to this process: eight bytes a row.

    Args:
        union: The version, and what comes to it.
        store: Where it is.
        target: The new version.
        added: The new shards, with the hashes of their ids.
        counts: Shards that each split has in the new version.
        client: Dask client whose workers copy and compare; this process does it without one.

    Raises:
        InvalidData: A new row has the id of another one.
    """
    base = union.base
    jobs = [
        _Kept(shard, target, index, counts[split], union.old)
        for split in base.splits
        for index, shard in enumerate(store.shards(base, split))
    ]
    kept = map_partitions(_keep, jobs, client)
    found = map_partitions(_compare, _meetings(kept, added, target, base), client)
    _refuse_other_rows(base, [name for one in found for name in one.other])
    left = {one.path: one.entry for one in found}
    new = [left.get(entry.path, entry) for entry, _ in added]
    files = [entry for entry in new if entry is not None]
    return Grown(
        files=[*(entry for entry, _ in kept), *files],
        added=sum(file.rows for file in files),
        same=sum(one.same for one in found),
        same_unlabelled=sum(one.unlabelled for one in found),
    )


def require_newest(store: DatasetStore, base: Manifest) -> None:
    """Check that nobody made a raw version meanwhile: its rows would be missing in the next one."""
    newest = store.get(base.name, LATEST_RAW)
    if newest.version != base.version:
        raise Unavailable(
            f"While rows were added to {base.name}@{base.version}, the version {newest.version} came",
            where=f"dataset {base.name}",
            mend="add them again, to that version",
        )


@dataclass(frozen=True)
class _Kept:
    shard: Shard
    target: ShardTarget
    index: int
    count: int
    form: Form | None


def _keep(job: _Kept) -> tuple[FileEntry, np.ndarray]:
    """Take a shard over into the new version; says what is there now, and the hashes of its ids."""
    shard = job.shard
    if job.form is None:
        path = shard_path(shard.file.split, job.index, job.count)
        try:
            entry = job.target.copy(shard, path)
        except FileNotFoundError as error:
            raise Damaged(
                f"A shard is gone: {error}", where=shard.file.path, mend="add to a version that is whole"
            ) from error
        with _new(entry, job.target, shard.manifest).opened() as file:
            return entry, id_keys(file.read([ID_COLUMN])[ID_COLUMN])
    table = job.form.rows(shard.read())
    return job.target.write(shard.file.split, job.index, job.count, table), id_keys(table[ID_COLUMN])


def _new(entry: FileEntry, target: ShardTarget, base: Manifest) -> Shard:
    """A shard of the version in the making, which has no manifest of its own yet."""
    return Shard(target.url, target.options, base, entry)


@dataclass(frozen=True)
class _Meeting:
    """A shard that was added, and the shards from before that may hold ids of it."""

    shard: Shard
    others: tuple[Shard, ...]
    target: ShardTarget


@dataclass(frozen=True)
class _Met:
    """What is left of a shard that was added.

    Attributes:
        path: The shard.
        entry: The shard without the rows that are there already; None if it has no other.
        same: How many these are.
        unlabelled: How many of them have no label.
        other: The rows whose id is there with other content.
    """

    path: str
    entry: FileEntry | None
    same: int
    unlabelled: int
    other: tuple[str, ...]


def _meetings(
    kept: Sequence[tuple[FileEntry, np.ndarray]],
    added: Sequence[tuple[FileEntry, np.ndarray]],
    target: ShardTarget,
    base: Manifest,
) -> list[_Meeting]:
    """The shards that have to be compared; nearly always none."""
    every = np.concatenate([ids for _, ids in kept])
    owner = np.repeat(np.arange(len(kept)), [len(ids) for _, ids in kept])
    order = np.argsort(every, kind="stable")
    every, owner = every[order], owner[order]
    light = base.model_copy(update={"files": ()})
    found = []
    for entry, ids in added:
        first, behind = np.searchsorted(every, ids), np.searchsorted(every, ids, side="right")
        hit = behind > first
        if hit.any():
            owners = np.unique(np.concatenate([owner[first[hit]], owner[behind[hit] - 1]]))
            others = tuple(_new(kept[place][0], target, light) for place in owners)
            found.append(_Meeting(_new(entry, target, light), others, target))
    return found


def _compare(job: _Meeting) -> _Met:
    """Find the rows of a shard that are there already, and write it without them."""
    entry, label = job.shard.file, job.shard.manifest.label
    table = job.shard.read()
    ids = table[ID_COLUMN].combine_chunks()
    twice = np.zeros(len(ids), bool)
    other: list[str] = []
    for shard in job.others:
        before = shard.read()
        before = before.filter(pc.is_in(before[ID_COLUMN], value_set=ids))
        if not before.num_rows:
            continue
        places = pc.index_in(before[ID_COLUMN], value_set=ids).to_numpy()
        twice[places] = True
        if shard.file.split != entry.split:
            other += [f"{name} (in {shard.file.split} there)" for name in before[ID_COLUMN].to_pylist()]
        elif not (rows := table.take(pa.array(places))).equals(before):
            names = before[ID_COLUMN].to_pylist()
            other += [name for name, same in zip(names, _same(rows, before), strict=True) if not same]
    if other or not twice.any():
        return _Met(entry.path, entry, 0, 0, tuple(other))
    left = table.filter(pa.array(~twice))
    unlabelled = table[label].null_count - left[label].null_count if label else 0
    if left.num_rows:
        return _Met(entry.path, job.target.rewrite(entry, left), int(twice.sum()), unlabelled, ())
    job.target.remove(entry)
    return _Met(entry.path, None, int(twice.sum()), unlabelled, ())


def _same(rows: pa.Table, others: pa.Table) -> np.ndarray:
    """Row by row, whether two tables of as many rows agree."""
    agree = np.ones(rows.num_rows, bool)
    for name in rows.column_names:
        one, two = rows[name].combine_chunks(), others[name].combine_chunks()
        if pa.types.is_nested(one.type):
            agree &= np.array([a == b for a, b in zip(one, two, strict=True)], bool)
        else:
            equal = pc.fill_null(pc.equal(one, two), False)
            agree &= pc.or_(equal, pc.and_(pc.is_null(one), pc.is_null(two))).to_numpy(zero_copy_only=False)
    return agree


def _refuse_other_rows(base: Manifest, other: Sequence[str]) -> None:
    """Refuse rows whose id another row has."""
    if other:
        raise InvalidData(
            f"{len(other):,} rows have the id of another row of {base.name}@{base.version}: "
            f"{listed(sorted(other), MOST_NAMED)}",
            allowed="new ids; rows that are the same in all columns and in split are kept once",
            mend="name a folder for the new rows in add_folder, give the files other names, or exclude them",
        )
