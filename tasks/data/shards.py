"""Parquet shards: how rows are laid out in a file, and how a worker writes one."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from tasks.data.manifest import FOLD_COLUMN, ID_COLUMN, Feature, FileEntry
from tasks.refs import Problem

FILES_IN_GROUP = 256
ROWS_IN_GROUP = 16_384
"""Rows that a reader must hold at least: of files and of tables."""


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

    def copy(self, origin: ShardTarget, entry: FileEntry, path: str) -> FileEntry:
        """Take a shard of another version as it is; an object store copies it without sending it here.

        Raises:
            FileNotFoundError: It is gone.
        """
        filesystem, folder = fsspec.core.url_to_fs(self.url, **self.options)
        _, other = fsspec.core.url_to_fs(origin.url, **origin.options)
        copy(filesystem, f"{other}/{entry.path}", f"{folder}/{path}")
        return entry.model_copy(update={"path": path})

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


def put(filesystem: fsspec.AbstractFileSystem, path: str, content: bytes | memoryview) -> None:
    """Store a file in one atomic step: all of it is there afterwards, or nothing.

    An object store does that by itself; on a local disk the content is written aside, forced to the
    disk and renamed.
    """
    if not isinstance(filesystem, LocalFileSystem):
        filesystem.pipe_file(path, bytes(content))
        return
    with _appearing(path) as file:
        file.write(content)


def copy(filesystem: fsspec.AbstractFileSystem, old: str, new: str) -> None:
    """Copy a file within the store, as atomically as `put`."""
    if not isinstance(filesystem, LocalFileSystem):
        filesystem.cp_file(old, new)
        return
    with open(old, "rb") as source, _appearing(new) as file:
        shutil.copyfileobj(source, file, 2**20)


@contextmanager
def _appearing(path: str) -> Iterator[IO[bytes]]:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


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
