"""What is in a version: its folders with rows and bytes, or the items of a folder or a glob.

Ids are read, and labels where they are asked for; files only of the items that are shown. One row group
at a time lies in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.data.config_store import BrowseConfig
from tasks.data.listed import listed
from tasks.data.manifest import ID_COLUMN, Manifest
from tasks.data.partitions import Progress, silent
from tasks.data.shards import Shard
from tasks.data.sources.globs import WILDCARD, Glob
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotFound
from tasks.refs import Problem

UNLABELLED = "unlabelled"

_MAPS = Problem.SEMANTIC_SEGMENTATION


@dataclass
class Folder:
    """What is below one folder; `bytes` as stored, of which each row of a row group has the same share."""

    splits: Counter[str] = field(default_factory=Counter)
    bytes: float = 0.0

    @property
    def rows(self) -> int:
        return self.splits.total()


@dataclass(frozen=True)
class Item:
    """One row; `bytes` of its file or text, and of a table's row its share of what is stored."""

    id: str
    split: str
    label: str
    bytes: int


@dataclass(frozen=True)
class Listing:
    """What was found.

    Attributes:
        folders: By name; rows that lie in the folder itself are under the name `.`.
        items: The first items, where there are no folders below.
        rows: All rows that were found.
        bytes: What they take in the store, about.
    """

    folders: dict[str, Folder]
    items: list[Item]
    rows: int
    bytes: int


def browse(
    store: DatasetStore, manifest: Manifest, config: BrowseConfig, progress: Progress = silent
) -> Listing:
    """Look into a version.

    Raises:
        NotFound: There is nothing at this path.
        InvalidSettings: There is no such split or label, or labels are no classes.
        Damaged: A shard is not there.
    """
    pattern = config.path.strip("/")
    glob = Glob(pattern) if WILDCARD.search(pattern) else None
    wanted = _Labels(manifest, config.label)
    folders: dict[str, Folder] = {}
    here = Folder()
    places: list[_Place] = []
    shards = _shards(store, manifest, config.split)
    for done, shard in enumerate(shards, 1):
        split = shard.file.split
        with shard.opened() as file:
            for group in range(file.num_row_groups):
                share = _share(file, group)
                table = file.read_row_group(group, [ID_COLUMN, *wanted.columns])
                ids, rows = _below(wanted.chosen(table), pattern, glob)
                inner = [] if glob else _inner(ids)
                for name, count in inner:
                    folder = folders.setdefault(name, Folder())
                    folder.splits[split] += count
                    folder.bytes += share * count
                count = len(ids) - sum(count for _, count in inner)
                here.splits[split] += count
                here.bytes += share * count
                missing = config.limit - len(places)
                if count and missing > 0:
                    direct = rows if not inner else rows.filter(pc.invert(pc.match_substring(ids, "/")))
                    places += [
                        _Place(shard, group, int(row), share) for row in direct.slice(0, missing).to_pylist()
                    ]
        progress(done, len(shards))
    rows = here.rows + sum(folder.rows for folder in folders.values())
    if not rows:
        _refuse_nothing(store, manifest, config)
    total = int(here.bytes + sum(folder.bytes for folder in folders.values()))
    if not folders:
        return Listing({}, _items(manifest, places), rows, total)
    found = dict(sorted(folders.items()))
    return Listing(({".": here} if here.rows else {}) | found, [], rows, total)


def lines(listing: Listing, limit: int) -> list[dict[str, str]]:
    """The first lines of a listing as table rows."""
    if not listing.folders:
        return [
            {"id": one.id, "split": one.split, "label": one.label, "bytes": f"{one.bytes:,}"}
            for one in listing.items
        ]
    return [
        {
            "folder": "(in the folder itself)" if name == "." else f"{name}/",
            "rows": f"{folder.rows:,}",
            "splits": ", ".join(f"{split} {rows:,}" for split, rows in folder.splits.items() if rows),
            "bytes": f"{folder.bytes:,.0f}",
        }
        for name, folder in list(listing.folders.items())[:limit]
    ]


@dataclass(frozen=True)
class _Place:
    """Where an item lies."""

    shard: Shard
    group: int
    row: int
    share: float


class _Labels:
    """Which rows have the label that is wanted."""

    def __init__(self, manifest: Manifest, label: str | None) -> None:
        self._manifest = manifest
        self._objects = manifest.problem.has_objects
        self.columns: list[str] = []
        self._index: int | None = None
        if label is None:
            return
        self._index = manifest.classes.index(label) if label in manifest.classes else None
        classes = manifest.problem.is_classification or self._objects
        known = label == UNLABELLED if self._index is None else classes
        if not known or not manifest.label:
            raise InvalidSettings(
                f"Rows of {manifest.name}@{manifest.version} cannot be chosen by the label {label}",
                where="label",
                allowed=listed([*(manifest.classes if classes else ()), UNLABELLED], 20)
                if manifest.label
                else "empty: rows have no label",
            )
        part = ".list.element.category" if self._objects else ".path" if manifest.problem is _MAPS else ""
        self.columns = [manifest.label + part]

    def chosen(self, table: pa.Table) -> tuple[pa.Array, pa.Array]:
        """Ids, and their places in the row group."""
        ids = table[ID_COLUMN].combine_chunks()
        rows = pa.array(range(len(ids)), pa.int64())
        if not self.columns:
            return ids, rows
        labels = table[self._manifest.label].combine_chunks()
        if self._index is None:
            mask = pc.is_null(labels)
        elif self._objects:
            categories = pc.struct_field(pc.list_flatten(labels), "category")
            owners = pc.list_parent_indices(labels).filter(pc.equal(categories, self._index))
            mask = pc.is_in(rows, value_set=pc.unique(owners.cast(pa.int64())))
        else:
            mask = pc.equal(labels, self._index)
        return ids.filter(mask), rows.filter(mask)


def _shards(store: DatasetStore, manifest: Manifest, split: str) -> Sequence[Shard]:
    if split == "any":
        return store.shards(manifest)
    if not manifest.splits.get(split):
        raise InvalidSettings(
            f"The version {manifest.name}@{manifest.version} has no split {split}",
            where="split",
            allowed=", ".join(manifest.splits),
        )
    return store.shards(manifest, split)


def _share(file: pq.ParquetFile, group: int) -> float:
    """Stored bytes of a row group by row; its table of contents says them."""
    about = file.metadata.row_group(group)
    stored: int = sum(about.column(index).total_compressed_size for index in range(about.num_columns))
    return stored / max(1, int(about.num_rows))


def _below(chosen: tuple[pa.Array, pa.Array], pattern: str, glob: Glob | None) -> tuple[pa.Array, pa.Array]:
    """Ids that match the glob; or those below the folder, from there on."""
    ids, rows = chosen
    if glob is not None:
        mask = pa.array([glob.matches(key.split("/")) for key in ids.to_pylist()], pa.bool_())
        return ids.filter(mask), rows.filter(mask)
    if not pattern:
        return ids, rows
    exact = pc.equal(ids, pattern)
    mask = pc.or_(pc.starts_with(ids, f"{pattern}/"), exact)
    return pc.utf8_slice_codeunits(ids.filter(mask), len(pattern) + 1), rows.filter(mask)


def _inner(ids: pa.Array) -> list[tuple[str, int]]:
    """First folders of relative ids, and how many ids are below each."""
    deeper = ids.filter(pc.match_substring(ids, "/"))
    if not len(deeper):
        return []
    names = pc.list_element(pc.split_pattern(deeper, "/", max_splits=1), 0)
    counts = pc.value_counts(names)
    return [(one["values"], one["counts"]) for one in counts.to_pylist()]


def _items(manifest: Manifest, places: Sequence[_Place]) -> list[Item]:
    """The rows at these places; of their files only the lengths are kept."""
    items: list[Item] = []
    for part in _by_group(places):
        with part[0].shard.opened() as file:
            columns = [ID_COLUMN, *([] if manifest.problem is _MAPS else manifest.label_columns)]
            rows = pa.array([place.row for place in part])
            table = file.read_row_group(part[0].group, columns).take(rows)
            sizes = _sizes(file, manifest, part[0].group, rows)
        labels = table[manifest.label].to_pylist() if manifest.label in table.column_names else None
        for index, (key, place) in enumerate(zip(table[ID_COLUMN].to_pylist(), part, strict=True)):
            size = round(place.share) if sizes is None else sizes[index]
            label = _shown(manifest, labels[index]) if labels is not None else ""
            items.append(Item(key, place.shard.file.split, label, size))
    return items


def _by_group(places: Sequence[_Place]) -> Iterator[list[_Place]]:
    part: list[_Place] = []
    for place in places:
        if part and (place.shard.file, place.group) != (part[0].shard.file, part[0].group):
            yield part
            part = []
        part.append(place)
    if part:
        yield part


def _sizes(file: pq.ParquetFile, manifest: Manifest, group: int, rows: pa.Array) -> list[int] | None:
    """Bytes of files and texts; None for tables."""
    feature = manifest.features[0]
    if manifest.problem.is_table:
        return None
    column = feature.name if feature.type == "text" else f"{feature.name}.bytes"
    values = file.read_row_group(group, [column])[feature.name].combine_chunks()
    values = values if feature.type == "text" else pc.struct_field(values, "bytes")
    return [size or 0 for size in pc.binary_length(values).take(rows).to_pylist()]


def _shown(manifest: Manifest, label: Any) -> str:
    if label is None:
        return ""
    if manifest.problem.has_objects:
        counts = Counter(manifest.classes[one["category"]] for one in label)
        return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "no objects"
    return manifest.classes[label] if manifest.classes else f"{label:g}"


def _refuse_nothing(store: DatasetStore, manifest: Manifest, config: BrowseConfig) -> None:
    what = f"{manifest.name}@{manifest.version}"
    if not config.path.strip("/"):
        raise NotFound(f"No row of {what} is in this split with this label", mend="choose others")
    top = browse(store, manifest, config.model_copy(update={"path": "", "label": None, "split": "any"}))
    there = list(top.folders) or [item.id for item in top.items]
    raise NotFound(
        f"There is nothing at {config.path} in {what}",
        where="path, split and label",
        allowed=f"at the top there are {listed(there, 10)}",
    )
