"""What is in each column of a table: type, gaps, range or most frequent values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tasks.markdown import cell, number, table

TOP = 3


@dataclass(frozen=True)
class ColumnSummary:
    """One column: counts of samples, and either a range or the most frequent values."""

    name: str
    type: str
    missing: int
    distinct: int
    low: float | None = None
    mean: float | None = None
    high: float | None = None
    top: tuple[tuple[str, int], ...] = ()


def summarise(frame: pd.DataFrame) -> list[ColumnSummary]:
    """Summarise every column of `frame`, in order."""
    return [_column(str(name), frame[name]) for name in frame.columns]


def _column(name: str, values: pd.Series) -> ColumnSummary:
    missing, distinct = int(values.isna().sum()), int(values.nunique())
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        present = values.dropna().to_numpy(dtype=np.float64)
        if len(present) == 0:
            return ColumnSummary(name, "numeric", missing, distinct)
        low, mean, high = (float(value) for value in (present.min(), present.mean(), present.max()))
        return ColumnSummary(name, "numeric", missing, distinct, low, mean, high)
    frequent = values.dropna().astype(str).value_counts().head(TOP)
    top = tuple((str(value), int(count)) for value, count in frequent.items())
    return ColumnSummary(name, "categorical", missing, distinct, top=top)


def render(columns: list[ColumnSummary], *, limit: int = 60) -> str:
    """The summary as a Markdown table; of more than `limit` columns the first are shown."""
    rows: list[list[object]] = []
    for column in columns[:limit]:
        if column.top:
            shown = ", ".join(f"{value} ({count:,})" for value, count in column.top)
            values = cell(shown + (", …" if column.distinct > len(column.top) else ""))
        elif column.mean is None:
            values = "no values"
        else:
            values = f"{number(column.low)} · **{number(column.mean)}** · {number(column.high)}"
        rows.append([cell(column.name), column.type, number(column.missing), number(column.distinct), values])
    head = ["column", "type", "missing", "distinct", "min · mean · max, or most frequent"]
    text = table(head, rows, right=("missing", "distinct"))
    if len(columns) > limit:
        text += f"\n\n{len(columns) - limit} more columns are not shown."
    return text
