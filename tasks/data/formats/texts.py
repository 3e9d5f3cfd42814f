"""What a text file must be to come into the store."""

from __future__ import annotations

TEXT_SUFFIXES = frozenset({".txt"})

MAX_BYTES = 16 * 2**20
"""A longer file is hardly one text to classify."""


def text(content: bytes) -> str:
    """The text of a file: UTF-8, with or without a byte order mark.

    Raises:
        ValueError: It is something else.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"{len(content):,} bytes, more than {MAX_BYTES:,}")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError("in UTF-16; save it as UTF-8")
    try:
        result = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not in UTF-8: byte {error.start + 1:,}") from None
    if "\0" in result:
        raise ValueError("not a text: it holds NUL characters")
    return result
