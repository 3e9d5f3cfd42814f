"""Parquet shards: how rows are laid out in a file, and how a worker writes one."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from tasks.data.manifest import ID_COLUMN, IMAGE_COLUMN, IMAGE_LABEL_COLUMN, Feature, FileEntry
from tasks.refs import Problem

ROW_GROUP_ROWS = 2_048
"""Rows that a reader must hold at least; small enough for photographs, large enough for tables."""


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
        images = IMAGE_COLUMN in table.column_names and pa.types.is_struct(table[IMAGE_COLUMN].type)
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            row_group_size=ROW_GROUP_ROWS,
            # Image files are compressed already, and a smallest and a largest image mean nothing.
            compression={"image.bytes": "NONE", "image.path": "ZSTD", "label": "ZSTD", "id": "ZSTD"}
            if images
            else "ZSTD",
            use_dictionary=[IMAGE_LABEL_COLUMN] if images else True,
            write_statistics=[IMAGE_LABEL_COLUMN] if images else True,
        )
        content = sink.getvalue()
        path = f"data/{split}-{index:05d}-of-{count:05d}.parquet"
        filesystem, folder = fsspec.core.url_to_fs(self.url, **self.options)
        put(filesystem, f"{folder}/{path}", memoryview(content))
        return FileEntry(
            path=path,
            split=split,
            rows=table.num_rows,
            bytes=content.size,
            sha256=hashlib.sha256(content).hexdigest(),
        )


def put(filesystem: fsspec.AbstractFileSystem, path: str, content: bytes | memoryview) -> None:
    """Store a file in one atomic step: all of it is there afterwards, or nothing.

    An object store does that by itself; on a local disk the content is written aside, forced to the
    disk and renamed.
    """
    if not isinstance(filesystem, LocalFileSystem):
        filesystem.pipe_file(path, bytes(content))
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with aside.open("xb") as file:
            file.write(content)
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


def schema(problem: Problem, features: Sequence[Feature], label: str, classes: Sequence[str]) -> pa.Schema:
    """Columns of a shard, with the metadata by which Hugging Face `datasets` decodes them.

    Images: `id` string, `image` struct<bytes, path>, `label` int64. Tables: `id` string, numeric
    columns float64, categorical columns string, label int64 (an index into `classes`) or float64.
    """
    fields = [pa.field(ID_COLUMN, pa.string())]
    described: dict[str, Any] = {ID_COLUMN: {"dtype": "string", "_type": "Value"}}
    for feature in features:
        if feature.type == "image":
            kind: pa.DataType = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            described[feature.name] = {"_type": "Image"}
        else:
            kind = pa.float64() if feature.type == "numeric" else pa.string()
            described[feature.name] = {
                "dtype": "float64" if feature.type == "numeric" else "string",
                "_type": "Value",
            }
        fields.append(pa.field(feature.name, kind))
    if problem.is_classification:
        fields.append(pa.field(label, pa.int64()))
        described[label] = {"names": list(classes), "_type": "ClassLabel"}
    else:
        fields.append(pa.field(label, pa.float64()))
        described[label] = {"dtype": "float64", "_type": "Value"}
    metadata = {"huggingface": json.dumps({"info": {"features": described}}, ensure_ascii=False)}
    return pa.schema(fields, metadata=metadata)


def image_table(
    ids: list[str], contents: list[bytes], labels: list[int | None], classes: tuple[str, ...]
) -> pa.Table:
    """Rows of images: encoded files, their ids and their labels (None: not labelled)."""
    features = (Feature(name=IMAGE_COLUMN, type="image"),)
    layout = schema(Problem.IMAGE_CLASSIFICATION, features, IMAGE_LABEL_COLUMN, classes)
    images = pa.StructArray.from_arrays(
        [pa.array(contents, pa.binary()), pa.array(ids, pa.string())], fields=list(layout.field(1).type)
    )
    return pa.table([pa.array(ids, pa.string()), images, pa.array(labels, pa.int64())], schema=layout)
