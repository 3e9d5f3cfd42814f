"""Text files in blocks of whole lines, from their beginning or from any line on; faults by line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple

from tasks.errors import InvalidData

BLOCK_BYTES = 2 * 2**20
COLUMN_BYTES = 1024
MOST_BLOCK_BYTES = 16 * 2**20
"""Tables of thousands of columns are read in larger blocks: each block costs some time a column."""

MOST_LINE_BYTES = 8 * 2**20
"""A line, or a quoted cell over many lines, that is longer is refused: a worker must hold it."""


class Block(NamedTuple):
    """Whole lines: the number of the first one, from 1, and where in the file it begins."""

    line: int
    start: int
    content: bytes


@dataclass(frozen=True)
class CsvRange:
    """Rows of a file that can be read without those before them.

    Attributes:
        names: Names of the columns.
        delimiter: What separates cells.
        line: The line, from 1, at which the first row begins.
        start: Where it begins, in bytes from the beginning of the file.
        end: Where the last row ends.
    """

    names: tuple[str, ...]
    delimiter: str
    line: int
    start: int
    end: int


class NotPlainError(Exception):
    """A block of lines that only the strict reader understands."""


def blocks(
    file: IO[bytes], path: str, part: CsvRange | None = None, most_bytes: int | None = None
) -> Iterator[Block]:
    """A file, or a part of it, in blocks that end where a line ends."""
    most_bytes = most_bytes or BLOCK_BYTES
    line, start, end = (part.line, part.start, part.end) if part else (1, 0, sys.maxsize)
    if start:
        file.seek(start)
    position = start
    rest = b""
    while True:
        fresh = file.read(min(most_bytes, end - position))
        if not position:
            marked = len(fresh)
            fresh = _without_mark(fresh, path)
            start = position = marked - len(fresh)
        position += len(fresh)
        block = rest + fresh if rest else fresh
        if b"\0" in fresh:
            found = line + line_ends(block[: block.index(b"\0")])
            raise fault(
                path, f"it holds NUL characters, the first in line {found:,}", "save it as plain text"
            )
        size = _last_end(block) if fresh else len(block)
        if size:
            yield Block(line, start, block[:size])
            line += line_ends(block[:size])
            start += size
        rest = block[size:]
        if len(rest) > MOST_LINE_BYTES:
            raise fault(
                path,
                f"line {line:,} is longer than {MOST_LINE_BYTES >> 20} MiB",
                "end every row with a line break",
            )
        if not fresh:
            return


def _without_mark(start: bytes, path: str) -> bytes:
    """The file's start without the mark of UTF-8; refuses other encodings by name."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or start[:1024].count(0) * 3 > len(start[:1024]) > 1:
        raise fault(path, "it is in UTF-16 or UTF-32, not in UTF-8", "save it as UTF-8")
    return start.removeprefix(b"\xef\xbb\xbf")


def _last_end(block: bytes) -> int:
    """Where the last whole line ends. A carriage return at the very end may be half of a line end."""
    return (block.rfind(b"\n") + 1) or (block.rfind(b"\r", 0, max(len(block) - 1, 0)) + 1)


def line_ends(content: bytes) -> int:
    """How many lines end in it, in the manner of Unix, Windows or old Macs."""
    returns = content.count(b"\r")
    return content.count(b"\n") + (returns - content.count(b"\r\n") if returns else 0)


def decoded(block: Block, path: str) -> str:
    try:
        return block.content.decode()
    except UnicodeDecodeError as error:
        line = block.line + line_ends(block.content[: error.start])
        what = f"line {line:,} is not UTF-8 (byte 0x{block.content[error.start]:02x})"
        raise fault(path, what, "save the file as UTF-8") from None


def line_start(file: IO[bytes], offset: int) -> int:
    """Where the first line begins that does so at an offset, or after it.

    Raises:
        NotPlainError: No line ends for a long way.
    """
    file.seek(offset - 1)
    position = offset - 1
    while position - offset < MOST_LINE_BYTES:
        block = file.read(2**16)
        if not block:
            return position
        found = block.find(b"\n")
        if found >= 0:
            return position + found + 1
        position += len(block)
    raise NotPlainError


def fault(path: str, what: str, mend: str) -> InvalidData:
    """The refusal of a file, with what it should have been."""
    return InvalidData(
        f"The file {path} cannot be read as CSV: {what}",
        allowed="UTF-8, a header row, and as many cells in every row",
        mend=mend,
    )
