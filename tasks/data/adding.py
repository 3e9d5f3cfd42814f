"""Rows of a source added to those of a version: one set of columns and classes, and no id twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.config import IngestConfig
from tasks.data.layouts.layout import INTEGER, Contents, ordered_classes
from tasks.data.layouts.seg_maps import MOST_CLASSES
from tasks.data.layouts.table_source import columns_file, files_of, most_categories, table_paths
from tasks.data.listed import listed
from tasks.data.manifest import ID_COLUMN, Feature, FileEntry, Manifest
from tasks.data.origins import origin_of
from tasks.data.partitions import map_partitions
from tasks.data.read import opened_shard, read_shard
from tasks.data.shards import ShardTarget, schema, shard_path
from tasks.data.sources.source import Source
from tasks.data.storage.store import LATEST_RAW, DatasetStore
from tasks.errors import Damaged, InvalidData, InvalidSettings, NotFound, Unavailable
from tasks.refs import Problem

if TYPE_CHECKING:
    from distributed import Client

_OF_THE_FIRST = ("label", "text_column", "file_format", "integer_labels", "label_names")
"""Parameters by which an export writes all rows as the first ones came."""

_CLASS_NUMBERS = ("category_ids", "class_ids")

MOST_NAMED = 20


def version_to_add_to(store: DatasetStore, config: IngestConfig) -> Manifest:
    """The newest raw version of the dataset, if rows for this problem can be added to it.

    Raises:
        NotFound: There is none, or it is somebody else's private one.
        InvalidSettings: It is for another problem, or its images were shrunk otherwise.
        Damaged: Its shards are not all there.
    """
    try:
        base = store.get(config.name, LATEST_RAW)
    except NotFound:
        raise NotFound(
            f"There is no dataset named {config.name} that rows could be added to",
            where="add",
            allowed=listed(store.names(), 20) or "nothing is there yet",
            mend="correct the name, or set add to false to make it",
        ) from None
    what = f"{base.name}@{base.version}"
    if base.problem is not config.problem:
        raise InvalidSettings(
            f"The dataset {what} is for {base.problem.value}, the rows to add are for {config.problem.value}",
            where="problem",
            allowed=base.problem.value,
            mend="choose that problem, or another name",
        )
    side = origin_of(store, base).parameters.get("max_image_side_px", config.max_image_side_px)
    if base.problem.modality == "image" and side != config.max_image_side_px:
        raise InvalidSettings(
            f"Images of {what} are at most {side} px, those to add {config.max_image_side_px} px",
            where="max_image_side_px",
            allowed=str(side),
        )
    store.verify(store.ref(base))
    return base


def read_alike(config: IngestConfig, store: DatasetStore, base: Manifest, source: Source) -> IngestConfig:
    """The settings, where they leave it open as the version was read: columns of tables and their types."""
    paths = table_paths(source)
    if not paths or not (base.problem.is_table or base.problem is Problem.TEXT_CLASSIFICATION):
        return config
    about = columns_file(source)
    columns = set(files_of(source, paths, about).columns)
    types: dict[str, Any] = {
        feature.name: feature.type
        for feature in base.features
        if feature.name in columns and feature.type in ("numeric", "categorical")
    }
    changes: dict[str, Any] = {"column_types": types | config.column_types}
    known = origin_of(store, base).parameters
    for field in ("label", "text_column"):
        name = known.get(field)
        if getattr(config, field) is None and name in columns and about is None:
            changes[field] = name
    return config.model_copy(update=changes)


@dataclass(frozen=True)
class Form:
    """How rows become those of the new version. Small: it travels to workers.

    Attributes:
        layout: Columns of the new version.
        label: Name of the label.
        problem: The problem.
        places: New integer label by old one.
        folder: What the rows' ids begin with.
    """

    layout: pa.Schema
    label: str
    problem: Problem
    places: tuple[int, ...]
    folder: str = ""

    def rows(self, table: pa.Table) -> pa.Table:
        columns = []
        for field in self.layout:
            column = table[field.name]
            if field.name == self.label:
                column = self._labels(column.combine_chunks())
            elif self.folder and field.name == ID_COLUMN:
                column = self._below(column.combine_chunks())
            elif self.folder and pa.types.is_struct(field.type):
                column = column.combine_chunks()
                parts = [pc.struct_field(column, "bytes"), self._below(pc.struct_field(column, "path"))]
                column = pa.StructArray.from_arrays(parts, fields=list(field.type), mask=pc.is_null(column))
            columns.append(column.cast(field.type))
        return pa.table(columns, schema=self.layout)

    def _below(self, names: pa.Array) -> pa.Array:
        return pc.binary_join_element_wise(pa.scalar(self.folder), names, pa.scalar("/"))

    def _labels(self, labels: pa.Array) -> pa.Array:
        if self.places == tuple(range(len(self.places))):
            return labels
        if self.problem.is_classification:
            return pa.array(self.places, pa.int64()).take(labels)
        if self.problem.has_objects:
            rows = labels.to_pylist()
            for one in (one for row in rows if row for one in row):
                one["category"] = self.places[one["category"]]
            return pa.array(rows, labels.type)
        from PIL import Image

        from tasks.data.formats.images import open_image, png

        places = np.asarray(self.places, np.uint8)
        rows = labels.to_pylist()
        for row in rows:
            if row is not None:
                row["bytes"] = png(Image.fromarray(places[np.asarray(open_image(row["bytes"]))]))
        return pa.array(rows, labels.type)


@dataclass(frozen=True)
class Union:
    """A version and what comes to it.

    Attributes:
        base: The version.
        features: Columns of both together.
        classes: Classes of both together.
        old: What becomes of the version's rows; None if their shards stay as they are.
        new: What becomes of the rows that are added.
        parameters: What the manifest keeps, to write all rows out as the first ones came.
    """

    base: Manifest
    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    old: Form | None
    new: Form
    parameters: Mapping[str, Any]


def union_of(base: Manifest, store: DatasetStore, contents: Contents, folder: str) -> Union:
    """Bring columns and classes together.

    Raises:
        InvalidData: The columns differ: the message names them.
    """
    _require_same_columns(base, contents)
    known = origin_of(store, base).parameters
    parameters = {name: known[name] for name in _OF_THE_FIRST if name in known}
    features = tuple(_joined(base.features, contents.features))
    given = dict(zip(contents.classes, _numbers(contents.parameters, contents.classes), strict=True))
    if base.problem.is_classification:
        classes = _joined_classes(base.classes, contents.classes, known)
    else:
        classes = base.classes + tuple(name for name in contents.classes if name not in base.classes)
    for field in _CLASS_NUMBERS:
        if field in contents.parameters:
            numbers = _numbers({**known, field: known.get(field, ())}, base.classes)
            for name in classes[len(numbers) :]:
                # Ids rise with the classes, as ingest would have them; those that are there stay.
                numbers.append(max(given[name], max(numbers, default=-1) + 1))
            parameters[field] = numbers
    if base.problem is Problem.SEMANTIC_SEGMENTATION and len(classes) > MOST_CLASSES:
        raise InvalidData(f"There would be {len(classes)} classes", allowed=f"at most {MOST_CLASSES}")
    layout = schema(base.problem, features, base.label, classes)

    def form(names: Sequence[str], folder: str = "") -> Form:
        places = tuple(_place(name, classes) for name in names)
        return Form(layout, base.label, base.problem, places, folder)

    old = None if classes == base.classes else form(base.classes)
    return Union(base, features, classes, old, form(contents.classes, folder), parameters)


def _require_same_columns(base: Manifest, contents: Contents) -> None:
    there = {feature.name: feature.type for feature in base.features}
    coming = {feature.name: feature.type for feature in contents.features}
    faults = []
    if base.label != contents.label:
        faults.append(f"its label is {base.label}, theirs is {contents.label}")
    if absent := sorted(there.keys() - coming.keys()):
        faults.append(f"they lack {listed(absent, MOST_NAMED)}")
    if more := sorted(coming.keys() - there.keys()):
        faults.append(f"they have {listed(more, MOST_NAMED)} besides")
    faults += [
        f"{name} is {there[name]} there, {coming[name]} here"
        for name in there
        if name in coming and there[name] != coming[name]
    ]
    if faults:
        raise InvalidData(
            f"The rows have other columns than {base.name}@{base.version}: {'; '.join(faults)}",
            allowed=f"the label {base.label} and the columns {listed(list(there), 50)}",
            mend="correct the files, label or column_types; or ingest them under another name",
        )


def _joined(old: Sequence[Feature], new: Sequence[Feature]) -> list[Feature]:
    """The columns with the categories of both; none are listed where they are too many for either."""
    coming = {feature.name: feature for feature in new}
    joined = []
    for feature in old:
        both = {*feature.categories, *coming[feature.name].categories}
        whole = feature.categories and coming[feature.name].categories
        fits = whole and len(both) <= most_categories(len(old))
        joined.append(feature.model_copy(update={"categories": tuple(sorted(both)) if fits else ()}))
    return joined


def _joined_classes(old: tuple[str, ...], new: tuple[str, ...], known: Mapping[str, Any]) -> tuple[str, ...]:
    """Classes in ingest's order; behind the old ones, where these have numbers that somebody gave."""
    if not _are_numbered(old, known):
        return ordered_classes([*old, *new])
    numbers = {str(place) for place in range(len(old))}
    return old + tuple(name for name in new if name not in old and name not in numbers)


def _are_numbered(classes: tuple[str, ...], known: Mapping[str, Any]) -> bool:
    given = bool(known.get("integer_labels") or known.get("label_names"))
    return given or classes != ordered_classes(classes)


def _place(name: str, classes: Sequence[str]) -> int:
    if name in classes:
        return classes.index(name)
    assert INTEGER.match(name)
    return int(name)  # the number of a class whose name is known from before


def _numbers(known: Mapping[str, Any], classes: Sequence[str]) -> list[int]:
    """The ids that classes came with; numbers of our own for those that were added since."""
    field = next((field for field in _CLASS_NUMBERS if field in known), "")
    numbers = list(known.get(field, ()))[: len(classes)]
    while len(numbers) < len(classes):
        numbers.append(max(numbers, default=-1 if field == "class_ids" else 0) + 1)
    return numbers


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
    origin = ShardTarget(store.version_url(base.name, base.version), store.options)
    jobs = [
        _Kept(entry, origin, target, index, counts[split], union.old)
        for split in base.splits
        for index, entry in enumerate(base.files_of(split))
    ]
    kept = map_partitions(_keep, jobs, client)
    found = map_partitions(_compare, _meetings(kept, added, target, base.label), client)
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
    entry: FileEntry
    origin: ShardTarget
    target: ShardTarget
    index: int
    count: int
    form: Form | None


def _keep(job: _Kept) -> tuple[FileEntry, np.ndarray]:
    """Take a shard over into the new version; says what is there now, and the hashes of its ids."""
    path = shard_path(job.entry.split, job.index, job.count)
    filesystem, folder = fsspec.core.url_to_fs(job.target.url, **job.target.options)
    if job.form is None:
        try:
            entry = job.target.copy(job.origin, job.entry, path)
        except FileNotFoundError as error:
            raise Damaged(
                f"A shard is gone: {error}", where=job.entry.path, mend="add to a version that is whole"
            ) from error
        with opened_shard(filesystem, f"{folder}/{path}") as file:
            return entry, hashes(file.read([ID_COLUMN]))
    _, source = fsspec.core.url_to_fs(job.origin.url, **job.origin.options)
    table = job.form.rows(read_shard(filesystem, f"{source}/{job.entry.path}"))
    return job.target.write(job.entry.split, job.index, job.count, table), hashes(table)


def hashes(table: pa.Table) -> np.ndarray:
    """A number for each id, uint64 [rows]."""
    return np.asarray(pd.util.hash_array(table[ID_COLUMN].to_pandas().to_numpy(object), categorize=False))


@dataclass(frozen=True)
class _Meeting:
    """A shard that was added, and the shards from before that may hold ids of it."""

    entry: FileEntry
    others: tuple[FileEntry, ...]
    target: ShardTarget
    label: str


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
    label: str,
) -> list[_Meeting]:
    """The shards that have to be compared; nearly always none."""
    every = np.concatenate([ids for _, ids in kept])
    owner = np.repeat(np.arange(len(kept)), [len(ids) for _, ids in kept])
    order = np.argsort(every, kind="stable")
    every, owner = every[order], owner[order]
    found = []
    for entry, ids in added:
        first, behind = np.searchsorted(every, ids), np.searchsorted(every, ids, side="right")
        hit = behind > first
        if hit.any():
            owners = np.unique(np.concatenate([owner[first[hit]], owner[behind[hit] - 1]]))
            found.append(_Meeting(entry, tuple(kept[place][0] for place in owners), target, label))
    return found


def _compare(job: _Meeting) -> _Met:
    """Find the rows of a shard that are there already, and write it without them."""
    filesystem, folder = fsspec.core.url_to_fs(job.target.url, **job.target.options)
    table = read_shard(filesystem, f"{folder}/{job.entry.path}")
    ids = table[ID_COLUMN].combine_chunks()
    twice = np.zeros(len(ids), bool)
    other: list[str] = []
    for entry in job.others:
        before = read_shard(filesystem, f"{folder}/{entry.path}")
        before = before.filter(pc.is_in(before[ID_COLUMN], value_set=ids))
        if not before.num_rows:
            continue
        places = pc.index_in(before[ID_COLUMN], value_set=ids).to_numpy()
        twice[places] = True
        if entry.split != job.entry.split:
            other += [f"{name} (in {entry.split} there)" for name in before[ID_COLUMN].to_pylist()]
        elif not (rows := table.take(pa.array(places))).equals(before):
            names = before[ID_COLUMN].to_pylist()
            other += [name for name, same in zip(names, _same(rows, before), strict=True) if not same]
    if other or not twice.any():
        return _Met(job.entry.path, job.entry, 0, 0, tuple(other))
    left = table.filter(pa.array(~twice))
    unlabelled = table[job.label].null_count - left[job.label].null_count
    if left.num_rows:
        return _Met(job.entry.path, job.target.rewrite(job.entry, left), int(twice.sum()), unlabelled, ())
    filesystem.rm_file(f"{folder}/{job.entry.path}")
    return _Met(job.entry.path, None, int(twice.sum()), unlabelled, ())


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
