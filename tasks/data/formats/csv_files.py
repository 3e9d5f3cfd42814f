"""CSV files as streams of tables of text, with faults named by line.

Python's `csv` reader, in strict mode, says what a file means. Arrow's is several times as fast and
means the same wherever there is no quote, so it reads the blocks that hold none; a block that it refuses
is left to the other, which says why. Memory is bounded by the blocks, whatever the length of the file.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from tasks.data.formats.csv_blocks import (
    BLOCK_BYTES,
    COLUMN_BYTES,
    MOST_BLOCK_BYTES,
    MOST_LINE_BYTES,
    Block,
    CsvRange,
    NotPlainError,
    blocks,
    decoded,
    fault,
    line_ends,
)
from tasks.errors import InvalidData

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS = ",;\t|"

MISSING = (
    *("", "NA", "N/A", "n/a", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None"),
    *("#N/A", "#N/A N/A", "#NA", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
"""Cells that hold no value, quoted or not: those of pandas."""

_TOLD = re.compile(r"sep=([,;\t|])\r?\n", re.IGNORECASE)
"""A first line by which Excel says what separates cells."""

_QUOTED = re.compile(r'"[^"]*"')


class CsvFile:
    """One open file, or a part of it; it is read once.

    Args:
        file: The file, at its beginning.
        path: Its name, for errors.
        part: Only these rows.

    Attributes:
        names: Names of the columns, as the header has them.
        rest: What follows the rows that `tables` gave so far.

    Raises:
        InvalidData: It has no header that can be read.
    """

    def __init__(self, file: IO[bytes], path: str, part: CsvRange | None = None) -> None:
        self.path = path
        csv.field_size_limit(MOST_LINE_BYTES)
        if part:
            self.names, self._delimiter, self.rest = list(part.names), part.delimiter, part
        else:
            first = next(blocks(file, path), None)
            if first is None:
                raise fault(path, "it is empty", "export the data again")
            self._delimiter = ","
            self.names, body = self._header(first)
            self.rest = self._after(body._replace(content=b""))
        size = min(max(BLOCK_BYTES, COLUMN_BYTES * len(self.names)), MOST_BLOCK_BYTES)
        self._blocks = blocks(file, path, self.rest, size)

    def tables(self, *, plain: bool = False) -> Iterator[pa.Table]:
        """The rows in order, a block at a time: string columns, null where a cell holds no value.

        Spaces before a cell are no part of it; lines with nothing but spaces are passed over.

        Args:
            plain: Go on only while there is no quote and no fault.

        Raises:
            InvalidData: A row has more or fewer cells than the header, a quote is never closed, or
                bytes are no UTF-8; the line is named.
            NotPlainError: There is a quote or a fault.
        """
        for block in self._blocks:
            table = self._quickly(block.content)
            if table is None:
                if plain:
                    raise NotPlainError
                table, block = self._strictly(block)
            self.rest = self._after(block)
            if table.num_rows:
                yield table

    def _after(self, block: Block) -> CsvRange:
        line = block.line + line_ends(block.content)
        start = block.start + len(block.content)
        return CsvRange(tuple(self.names), self._delimiter, line, start, sys.maxsize)

    def _header(self, block: Block) -> tuple[list[str], Block]:
        text = decoded(block, self.path)
        number = block.line
        shown = next((line for line in io.StringIO(text) if line.strip()), "")
        self._delimiter = max(DELIMITERS, key=_QUOTED.sub("", shown).count)
        if self.path.lower().endswith(".tsv") and "\t" in shown:
            self._delimiter = "\t"
        lines = io.StringIO(text, newline="")
        if told := _TOLD.match(text):
            self._delimiter = told[1]
            number += line_ends(lines.readline().encode())
        reader = self._reader(lines)
        try:
            header = next((row for row in reader if any(map(str.strip, row)) or len(row) > 1), None)
        except csv.Error as error:
            raise self._refused(error, number, number + reader.line_num - 1) from None
        if header is None:
            raise fault(self.path, "it is empty", "export the data again")
        content = text[lines.tell() :].encode()
        start = block.start + len(block.content) - len(content)
        return [name.strip() for name in header], Block(number + reader.line_num, start, content)

    def _reader(self, lines: Iterator[str] | io.StringIO) -> Reader:
        return csv.reader(lines, delimiter=self._delimiter, skipinitialspace=True, strict=True)

    def _quickly(self, content: bytes) -> pa.Table | None:
        """The block by Arrow; None where its reading might not be that of `csv`."""
        if b'"' in content:
            return None
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(content),
                read_options=arrow_csv.ReadOptions(
                    use_threads=False, block_size=len(content) + 1, column_names=self.names
                ),
                parse_options=arrow_csv.ParseOptions(delimiter=self._delimiter, quote_char=False),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(self.names, pa.string()),
                    null_values=MISSING,
                    strings_can_be_null=True,
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            return None
        delimiter = self._delimiter.encode()
        if delimiter + b" " in content or b"\n " in content or b"\r " in content or content[:1] == b" ":
            columns = [_without_missing(pc.utf8_ltrim(column, " ")) for column in table.columns]
            table = pa.table(columns, names=self.names)
        return table

    def _strictly(self, block: Block) -> tuple[pa.Table, Block]:
        """The block by `csv`, and as many more as a cell that it opens reaches into; the last of them."""
        number = block.line
        last = block
        left = 0

        def feed() -> Iterator[str]:
            nonlocal left, last
            for last in chain([block], self._blocks):
                lines = list(io.StringIO(decoded(last, self.path), newline=""))
                left = len(lines)
                for line in lines:
                    left -= 1
                    yield line

        rows: list[list[str]] = []
        wanted = len(self.names)
        reader = self._reader(feed())
        began = number
        try:
            for row in reader:
                if len(row) == wanted:
                    rows.append(row)
                elif len(row) > 1 or "".join(row).strip():
                    raise fault(
                        self.path,
                        f"line {began:,} has {len(row)} cells, the header has {wanted}",
                        "correct this line; a cell that holds the separator needs quotes around it",
                    )
                began = number + reader.line_num
                if not left:
                    break  # the next block may go quickly again
        except csv.Error as error:
            raise self._refused(error, began, number + reader.line_num - 1) from None
        columns = zip(*rows, strict=True) if rows else [()] * wanted
        arrays = [_without_missing(pa.array(column, pa.string())) for column in columns]
        return pa.table(arrays, names=self.names), last

    def _refused(self, error: csv.Error, began: int, line: int) -> InvalidData:
        """What `csv` says, in words that help."""
        said = str(error)
        if "unexpected end of data" in said:
            what, mend = f"the quote that is opened in line {began:,} is never closed", "close the quote"
        elif "expected after" in said:
            what = f"in line {line:,} text follows a closing quote, in the row that begins in line {began:,}"
            mend = 'close every quote, and write a quote inside a quoted cell twice: ""'
        elif "field limit" in said:
            what = (
                f"a cell of the row that begins in line {began:,} is longer than "
                f"{MOST_LINE_BYTES >> 20} MiB, or its quote is never closed"
            )
            mend = "close the quote, or shorten the cell"
        else:
            what, mend = f"line {line:,}: {said}", "correct this line"
        return fault(self.path, what, mend)


def _without_missing(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.if_else(pc.is_in(column, value_set=pa.array(MISSING)), pa.scalar(None, pa.string()), column)


def empty(names: Sequence[str]) -> pa.Table:
    """No row of such columns."""
    return pa.table({name: pa.array([], pa.string()) for name in names})
