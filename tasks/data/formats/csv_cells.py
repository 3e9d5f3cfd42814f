"""Cells that a spreadsheet would run as a formula, escaped by a leading apostrophe, and back.

The apostrophe is what spreadsheets themselves take for "this is text". Numbers such as -5 stay as they are.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

_STARTS = r"(?:[ ]*[=+\-@＝＋－＠]|[ ]*[\t\r\n])"
_RUN = rf"^'*{_STARTS}"
_ESCAPED = rf"^'+{_STARTS}"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_RUN_CELL, _NUMBER_CELL = re.compile(_RUN), re.compile(_NUMBER, re.ASCII)


def escaped_cell(text: str) -> str:
    """One cell that no spreadsheet runs; `freed_cell` gives the text back."""
    return f"'{text}" if _RUN_CELL.match(text) and not _NUMBER_CELL.fullmatch(text) else text


def freed_cell(text: str) -> str:
    """What `escaped_cell` was given."""
    return text[1:] if text.startswith("'") and _RUN_CELL.match(text) else text


def escaped_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of cells that no spreadsheet runs; `freed_column` gives the texts back."""
    harmless = pc.match_substring_regex(column, _NUMBER)
    runs = pc.and_not(pc.match_substring_regex(column, _RUN), harmless)
    if not pc.any(runs).as_py():
        return column
    mark = pa.scalar("'", pa.string())
    return pc.if_else(runs, pc.binary_join_element_wise(mark, column, pa.scalar("", pa.string())), column)


def freed_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """What `escaped_column` was given."""
    marked = pc.match_substring_regex(column, _ESCAPED)
    if not pc.any(marked).as_py():
        return column
    return pc.if_else(marked, pc.utf8_slice_codeunits(column, 1), column)
