"""Columns of table files as the store keeps them: float64 or strings, null for missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.preparation.preprocessing import words
from tasks.errors import InvalidData


@dataclass(frozen=True)
class Numbers:
    """A column as numbers.

    Attributes:
        values: float64, null for missing and for what is no number.
        wrong: Place of the first value that is no number; None if there is none.
        infinite: Place of the first number that is not finite; None if there is none.
    """

    values: pa.ChunkedArray
    wrong: int | None = None
    infinite: int | None = None


def plain(column: pa.ChunkedArray, name: str, path: str) -> pa.ChunkedArray:
    """One type for a kind of values: strings are `string`, not-a-number is null, categories are values."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = kind.value_type
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column) if len(column) else column
    if kind != pa.string() and (_is_text(kind) or _is_bytes(kind)):
        try:
            return column.cast(pa.string())
        except pa.ArrowInvalid:
            raise InvalidData(
                f"The column {name} of {path} holds bytes that are no text",
                allowed="numbers, words, dates and booleans",
                mend="leave this column out of the file",
            ) from None
    return column


def never_numbers(kind: pa.DataType) -> bool:
    """Whether a type stands for categories, though its values could be counted: booleans and dates."""
    return bool(pa.types.is_boolean(kind) or pa.types.is_temporal(kind))


def is_number_type(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def as_numbers(column: pa.ChunkedArray) -> Numbers:
    """A plain column as float64; texts are read as `pandas.to_numeric` reads them."""
    kind = column.type
    if pa.types.is_null(kind) or pa.types.is_boolean(kind) or is_number_type(kind):
        values = column.cast(pa.float64(), safe=False)
    elif pa.types.is_string(kind):
        try:
            values = column.cast(pa.float64())
        except pa.ArrowInvalid:
            values = _parsed(column)
    else:
        values = pa.chunked_array([pa.nulls(len(column), pa.float64())])
    wrong = None
    if values.null_count > column.null_count or pc.any(pc.is_nan(values)).as_py():
        absent = pc.is_null(values, nan_is_null=True)
        wrong = _first(pc.and_(absent, pc.is_valid(column)))
        values = pc.if_else(absent, pa.scalar(None, pa.float64()), values)
    return Numbers(values, wrong, _first(pc.is_inf(values)))


def as_words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A plain column as strings; whole numbers lose their `.0`, as `preprocessing.words` has it."""
    if pa.types.is_string(column.type):
        return column
    encoded = column.combine_chunks().dictionary_encode()
    names = words(pd.Series(encoded.dictionary.to_pandas()))
    return pa.chunked_array([pa.array(names, pa.string(), from_pandas=True).take(encoded.indices)])


def first_missing(column: pa.ChunkedArray) -> int | None:
    """Place of the first null."""
    return _first(pc.is_null(column)) if column.null_count else None


def _parsed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts of which some are no number, or are one with spaces around it."""
    texts = pc.ascii_trim_whitespace(column)
    try:
        return texts.cast(pa.float64())
    except pa.ArrowInvalid:
        found = pd.to_numeric(pd.Series(texts.to_pandas()), errors="coerce").to_numpy(np.float64)
        return pa.chunked_array([pa.array(found, from_pandas=True)])


def _first(mask: pa.ChunkedArray) -> int | None:
    place: int = pc.index(mask, True).as_py()
    return place if place >= 0 else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )
