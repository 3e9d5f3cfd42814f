"""The second pass over table files: rows as the store keeps them, shard by shard, on workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.formats.table_files import divided
from tasks.data.layouts.layout import Rows
from tasks.data.layouts.table_spans import SHARD_BYTES, SHARD_ROWS, Files, FileSpan
from tasks.data.layouts.table_values import as_numbers, as_words, plain
from tasks.errors import InvalidData


@dataclass(frozen=True)
class RowForm:
    """How columns of the files become those of the store.

    Attributes:
        schema: The columns of the store.
        origins: Name in the files by name in the store.
        id_column: The files' column of ids; None where file and row number are the id.
        label: Name of the label in the store.
        index_of: Integer label by label as the files write it; None for regression.
    """

    schema: pa.Schema
    origins: Mapping[str, str]
    id_column: str | None
    label: str
    index_of: Mapping[str, int] | None

    def rows(self, table: pa.Table, path: str, first_row: int) -> pa.Table:
        """Rows of a file of which `first_row` came before."""
        columns = [self._ids(table, path, first_row)]
        for field in list(self.schema)[1:]:
            values = plain(table[self.origins[field.name]], field.name, path)
            if field.name == self.label and self.index_of is not None:
                columns.append(self._classes(as_words(values), path))
            elif pa.types.is_floating(field.type):
                columns.append(as_numbers(values).values)
            else:
                columns.append(as_words(values))
        return pa.table(columns, schema=self.schema)

    def _ids(self, table: pa.Table, path: str, first_row: int) -> pa.Array:
        if self.id_column is not None:
            return as_words(plain(table[self.id_column], self.id_column, path))
        numbers = pa.array(np.arange(first_row + 1, first_row + table.num_rows + 1)).cast(pa.string())
        return pc.binary_join_element_wise(pa.scalar(f"{path}#"), numbers, pa.scalar(""))

    def _classes(self, labels: pa.ChunkedArray, path: str) -> pa.Array:
        assert self.index_of is not None
        encoded = labels.combine_chunks().dictionary_encode()
        try:
            found = [self.index_of[label] if label else None for label in encoded.dictionary.to_pylist()]
        except KeyError:
            raise changed(path) from None
        return pa.array(found, pa.int64()).take(encoded.indices)


@dataclass(frozen=True)
class TablePartition:
    """Rows of one split: a span of a file, or several small files that make one shard.

    Attributes:
        split: The split.
        spans: What is read, in order.
        cuts: Rows of each shard.
    """

    split: str
    spans: tuple[FileSpan, ...]
    cuts: tuple[int, ...]
    files: Files
    form: RowForm

    @property
    def shards(self) -> int:
        return len(self.cuts)

    def read(self) -> Iterator[Rows]:
        done = 0
        for table in divided(self._tables(), self.cuts):
            if done == len(self.cuts) or table.num_rows != self.cuts[done]:
                raise changed(self.spans[-1].path)
            done += 1
            yield Rows(table)
        if done < len(self.cuts):
            raise changed(self.spans[-1].path)

    def _tables(self) -> Iterator[pa.Table]:
        wanted = list(self.form.origins.values())
        if self.form.id_column is not None:
            wanted.append(self.form.id_column)
        for span in self.spans:
            row = span.first_row
            for table in self.files.batches(span, wanted):
                yield self.form.rows(table, span.path, row)
                row += table.num_rows

    def halved(self) -> Sequence[TablePartition]:
        if len(self.spans) < 2:
            return ()
        middle = len(self.spans) // 2
        halves = self.spans[:middle], self.spans[middle:]
        return [replace(self, spans=half, cuts=(sum(span.rows for span in half),)) for half in halves]

    def names(self) -> Sequence[str]:
        return list(dict.fromkeys(span.path for span in self.spans))


def partitions(
    spans: Sequence[FileSpan], splits: Mapping[str, str], files: Files, form: RowForm
) -> list[TablePartition]:
    """Spans in their order, small files together.

    Args:
        spans: As the survey found them.
        splits: Split by path.
        files: How they are read.
        form: What becomes of the rows.
    """
    made: list[TablePartition] = []
    together: list[FileSpan] = []
    rows = size = 0
    for span in spans:
        fits = (
            together
            and splits[together[-1].path] == splits[span.path]
            and len(together[-1].cuts) == len(span.cuts) == 1
            and rows + span.rows <= SHARD_ROWS
            and size + span.bytes <= SHARD_BYTES
        )
        if together and not fits:
            made.append(_partition(together, splits, files, form))
            together, rows, size = [], 0, 0
        together.append(span)
        rows, size = rows + span.rows, size + span.bytes
    if together:
        made.append(_partition(together, splits, files, form))
    return made


def _partition(
    spans: Sequence[FileSpan], splits: Mapping[str, str], files: Files, form: RowForm
) -> TablePartition:
    cuts = spans[0].cuts if len(spans) == 1 else (sum(span.rows for span in spans),)
    return TablePartition(splits[spans[0].path], tuple(spans), cuts, files, form)


def changed(path: str) -> InvalidData:
    return InvalidData(
        f"The file {path} changed while it was read",
        mend="ingest again when nobody writes to it",
    )
