"""Parquet shards: how rows are laid out in a file, and how a worker reads and writes one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from tasks.data.manifest import FOLD_COLUMN, ID_COLUMN, Feature, FileEntry, Manifest
from tasks.data.storage.files import copy, put
from tasks.errors import Damaged
from tasks.refs import Problem

FILES_IN_GROUP = 256
ROWS_IN_GROUP = 16_384
"""Rows that a reader must hold at least: of files and of tables."""


@dataclass(frozen=True)
class Shard:
    """One shard of a version, readable on any process; `DatasetStore.shards` lists them.

    Attributes:
        url: Folder of the version.
        options: fsspec storage options.
        manifest: The version, without its list of files, which every task would carry.
        file: The shard.
    """

    url: str
    options: dict[str, Any] = field(repr=False)
    manifest: Manifest = field(repr=False)
    file: FileEntry

    def read(self, columns: Iterable[str] | None = None) -> pa.Table:
        """All rows, or some of their columns.

        Raises:
            Damaged: The file is missing or is not Parquet.
        """
        filesystem, path = self._place()
        wanted = None if columns is None else list(columns)
        with _undamaged(path):
            if isinstance(filesystem, LocalFileSystem):
                return pq.read_table(path, columns=wanted, partitioning=None)
            with filesystem.open(path, "rb") as file:
                return pq.read_table(file, columns=wanted)

    def groups(self, columns: Iterable[str] | None = None) -> Iterator[pa.Table]:
        """The same rows, row group after row group, so that one lies in memory at a time."""
        wanted = None if columns is None else list(columns)
        try:
            with self.opened(ahead=True) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, wanted)
        finally:
            pa.default_memory_pool().release_unused()  # else a worker keeps the most that it ever needed

    @contextmanager
    def opened(self, *, ahead: bool = False) -> Iterator[pq.ParquetFile]:
        """The file, for whoever reads only parts of it.

        Args:
            ahead: Whether an object store is asked for more than is read at once, as suits whole rows;
                otherwise only what is read is fetched, and not the files that lie between the ids.

        Raises:
            Damaged: The file is missing or is not Parquet.
        """
        filesystem, path = self._place()
        how = {} if ahead or isinstance(filesystem, LocalFileSystem) else {"cache_type": "none"}
        with _undamaged(path), filesystem.open(path, "rb", **how) as stored, pq.ParquetFile(stored) as file:
            yield file

    def _place(self) -> tuple[fsspec.AbstractFileSystem, str]:
        # As the store opens it, which is the same object then.
        filesystem, folder = fsspec.core.url_to_fs(self.url, use_listings_cache=False, **self.options)
        return filesystem, f"{folder}/{self.file.path}"


@contextmanager
def _undamaged(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        raise Damaged(
            f"A shard cannot be read: {error}", where=path, mend="ingest or preprocess again"
        ) from error


@dataclass(frozen=True)
class ShardTarget:
    """Where the shards of one version go. Small, so that it travels to Dask workers.

    Args:
        url: Folder of the version.
        options: fsspec storage options.
    """

    url: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)

    def write(self, split: str, index: int, count: int, table: pa.Table) -> FileEntry:
        """Write shard `index` of `count` of a split and say what was written.

        Writing the same shard again (a worker's task may be run twice) replaces it by the same bytes.
        """
        return self._put(shard_path(split, index, count), split, table)

    def rewrite(self, entry: FileEntry, table: pa.Table) -> FileEntry:
        """Write other rows in the place of a shard."""
        return self._put(entry.path, entry.split, table)

    def copy(self, shard: Shard, path: str) -> FileEntry:
        """Take a shard of another version as it is; an object store copies it without sending it here.

        Raises:
            FileNotFoundError: It is gone.
        """
        filesystem, folder = fsspec.core.url_to_fs(self.url, **self.options)
        _, other = fsspec.core.url_to_fs(shard.url, **shard.options)
        copy(filesystem, f"{other}/{shard.file.path}", f"{folder}/{path}")
        return shard.file.model_copy(update={"path": path})

    def remove(self, entry: FileEntry) -> None:
        """Take back a shard that was written."""
        filesystem, folder = fsspec.core.url_to_fs(self.url, **self.options)
        filesystem.rm_file(f"{folder}/{entry.path}")

    def _put(self, path: str, split: str, table: pa.Table) -> FileEntry:
        sink = pa.BufferOutputStream()
        leaves = [leaf for column in table.schema for leaf in _leaves(column)]
        files = any(column.type == _FILE for column in table.schema)
        plain = [leaf for leaf in leaves if not leaf.endswith(".bytes")]
        pq.write_table(
            table,
            sink,
            row_group_size=FILES_IN_GROUP if files else ROWS_IN_GROUP,
            # Pixels as `images.png` writes them: LZ4 is read at three times the speed of ZSTD.
            compression={leaf: "ZSTD" if leaf in plain else "LZ4" for leaf in leaves},
            # Files repeat nothing, and a smallest and a largest file mean nothing.
            use_dictionary=plain,
            write_statistics=plain,
        )
        content = sink.getvalue()
        filesystem, folder = fsspec.core.url_to_fs(self.url, **self.options)
        put(filesystem, f"{folder}/{path}", memoryview(content))
        return FileEntry(
            path=path,
            split=split,
            rows=table.num_rows,
            bytes=content.size,
            sha256=hashlib.sha256(content).hexdigest(),
        )


def shard_path(split: str, index: int, count: int) -> str:
    """Path of shard `index` of `count` of a split, relative to the version's folder."""
    return f"data/{split}-{index:05d}-of-{count:05d}.parquet"


def schema(
    problem: Problem,
    features: Sequence[Feature],
    label: str,
    classes: Sequence[str],
    *,
    folds: bool = False,
) -> pa.Schema:
    """Columns of a shard, with the metadata by which Hugging Face `datasets` decodes them.

    `id` string; then the features: `image` and `audio` struct<bytes, path>, `text` string, numeric
    columns float64, categorical columns string; then `fold` int64, if there are folds; then the label:

    - none for clustering and dimension reduction;
    - one class a row: int64, an index into `classes`;
    - regression: float64;
    - objects: list of struct<bbox (x, y, width, height in pixels), category, area, iscrowd>, and for
      instance segmentation `segmentation` (polygons of x, y, x, y, … in pixels) and `rle` (COCO's
      run-length mask as JSON, where an object has no polygon);
    - semantic segmentation: struct<bytes, path>, an image of class numbers.
    """
    fields = [pa.field(ID_COLUMN, pa.string())]
    described: dict[str, Any] = {ID_COLUMN: _value("string")}
    for feature in features:
        kind, about = _FEATURES[feature.type]
        fields.append(pa.field(feature.name, kind))
        described[feature.name] = about
    if folds:
        fields.append(pa.field(FOLD_COLUMN, pa.int64()))
        described[FOLD_COLUMN] = _value("int64")
    if problem.has_label:
        kind, about = _label(problem, classes)
        fields.append(pa.field(label, kind))
        described[label] = about
    metadata = {"huggingface": json.dumps({"info": {"features": described}}, ensure_ascii=False)}
    return pa.schema(fields, metadata=metadata)


def _value(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "_type": "Value"}


def _leaves(field: pa.Field, path: str = "") -> list[str]:
    """Paths of the columns that Parquet makes of a field."""
    path = f"{path}.{field.name}" if path else field.name
    kind = field.type
    if pa.types.is_struct(kind):
        return [leaf for child in kind for leaf in _leaves(child, path)]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(pa.field("element", kind.value_type), f"{path}.list")
    return [path]


_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_FEATURES: dict[str, tuple[pa.DataType, dict[str, Any]]] = {
    "image": (_FILE, {"_type": "Image"}),
    "audio": (_FILE, {"_type": "Audio"}),
    "text": (pa.string(), _value("string")),
    "numeric": (pa.float64(), _value("float64")),
    "categorical": (pa.string(), _value("string")),
}


def _label(problem: Problem, classes: Sequence[str]) -> tuple[pa.DataType, dict[str, Any]]:
    class_label = {"names": list(classes), "_type": "ClassLabel"}
    if problem.is_classification:
        return pa.int64(), class_label
    if problem is Problem.SEMANTIC_SEGMENTATION:
        return _FILE, {"_type": "Image"}
    if not problem.has_objects:
        return pa.float64(), _value("float64")
    parts: dict[str, tuple[pa.DataType, dict[str, Any]]] = {
        "bbox": (pa.list_(pa.float64(), 4), {"_type": "List", "feature": _value("float64"), "length": 4}),
        "category": (pa.int64(), class_label),
        "area": (pa.float64(), _value("float64")),
        "iscrowd": (pa.bool_(), _value("bool")),
    }
    if problem is Problem.INSTANCE_SEGMENTATION:
        polygon = {"_type": "List", "feature": _value("float64")}
        parts["segmentation"] = (
            pa.list_(pa.list_(pa.float64())),
            {"_type": "List", "feature": polygon},
        )
        parts["rle"] = (pa.string(), _value("string"))
    objects = pa.struct([(name, kind) for name, (kind, _) in parts.items()])
    about = {name: one for name, (_, one) in parts.items()}
    return pa.list_(objects), {"_type": "List", "feature": about}


def media_table(
    layout: pa.Schema, ids: Sequence[str], contents: Sequence[Any], labels: Sequence[Any]
) -> pa.Table:
    """Rows whose one feature is a file or a text.

    Args:
        layout: As `schema` makes it, without folds.
        ids: n row ids; the `path` of files is their id.
        contents: n encoded files (bytes), or n texts (str).
        labels: n labels as Python values, None where a row has none; files (bytes) for seg maps.
    """
    names = pa.array(ids, pa.string())
    columns = [names]
    for column, values in zip(list(layout)[1:], (contents, labels), strict=True):
        if column.type == _FILE:
            missing = pa.array([value is None for value in values], pa.bool_())
            parts = [pa.array(values, pa.binary()), names]
            columns.append(pa.StructArray.from_arrays(parts, fields=list(_FILE), mask=missing))
        else:
            columns.append(pa.array(values, column.type))
    return pa.table(columns, schema=layout)
