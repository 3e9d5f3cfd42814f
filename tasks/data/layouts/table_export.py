"""Rows of a table written out as files, in the format that they came in."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from tasks.data.formats.csv_cells import escaped_cell, escaped_column
from tasks.data.layouts.exported import names_file
from tasks.data.layouts.layout import File, StoredVersion
from tasks.data.layouts.table_source import COLUMNS_FILE, ColumnsFile
from tasks.data.manifest import ID_COLUMN


def exported(version: StoredVersion, columns: Mapping[str, str], text: str | None) -> Iterator[File]:
    """A file a split, a description of the columns, and the names of the classes.

    Args:
        version: What is written.
        columns: Names in the files by names in the store: of the features, and of the label last.
        text: Name in the files of the column of texts, if there is one.
    """
    manifest = version.manifest
    parquet = version.origin.parameters.get("file_format") == "parquet"
    for split in version.splits:
        if not manifest.splits.get(split):
            continue
        tables = (_table(version, table, columns) for table in version.tables(split))
        yield (
            (f"{split}.parquet", _parquet_blocks(tables))
            if parquet
            else (f"{split}.csv", _csv_blocks(tables))
        )
    about = ColumnsFile(
        label=columns[manifest.label] if manifest.label else None,
        text=text,
        types={
            feature.name: feature.type
            for feature in manifest.features
            if feature.type in ("numeric", "categorical")
        },
        escaped=not parquet,
    )
    exclude = {"text"} if text is None else None
    yield COLUMNS_FILE, [about.model_dump_json(indent=1, exclude=exclude).encode() + b"\n"]
    if manifest.classes:
        yield names_file(manifest.classes)


def _table(version: StoredVersion, table: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    """Ids, features and label under the files' names; classes by name, or by number if they came so."""
    manifest = version.manifest
    written = {ID_COLUMN: table[ID_COLUMN]} | {name: table[column] for column, name in columns.items()}
    if manifest.problem.is_classification and not version.origin.parameters.get("integer_labels"):
        classes = pa.array(manifest.classes, pa.string())
        labels = table[manifest.label].combine_chunks()
        written[columns[manifest.label]] = classes.take(labels)
    return pa.table(written)


def _csv_blocks(tables: Iterable[pa.Table]) -> Iterator[bytes]:
    first = True
    for table in tables:
        texts = [
            escaped_column(column) if pa.types.is_string(column.type) else column for column in table.columns
        ]
        safe = pa.table(texts, names=[escaped_cell(name) for name in table.column_names])
        sink = io.BytesIO()
        arrow_csv.write_csv(safe, sink, arrow_csv.WriteOptions(include_header=first))
        yield sink.getvalue()
        first = False


class _Sink(io.RawIOBase):
    """Takes blocks until somebody fetches them."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, block: object) -> int:
        content = bytes(block)  # type: ignore[call-overload]
        self._blocks.append(content)
        self._size += len(content)
        return len(content)

    def fetched(self) -> list[bytes]:
        blocks, self._blocks = self._blocks, []
        return blocks


def _parquet_blocks(tables: Iterable[pa.Table]) -> Iterator[bytes]:
    sink = _Sink()
    writer: pq.ParquetWriter | None = None
    for table in tables:
        if writer is None:
            writer = pq.ParquetWriter(sink, table.schema, compression="ZSTD")
        writer.write_table(table)
        yield from sink.fetched()
    if writer is not None:
        writer.close()
    yield from sink.fetched()
