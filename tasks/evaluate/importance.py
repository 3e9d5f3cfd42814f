"""What each column of a table is worth to a model: by shuffling it, and as the model itself counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from tasks.train.bundle import Bundle

MOST_ROWS = 1000
LEAST_ROWS = 50
MOST_REPEATS = 5
MOST_KEPT = 40
MOST_COLUMNS = 1000
"""Columns of a table whose importance is measured at all."""


class ColumnImportance(BaseModel):
    """One column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    importance: float = Field(description="How much worse the metric becomes; or the share of the model.")
    deviation: float = Field(default=0.0, description="Standard deviation over the shuffles.")


class Importance(BaseModel):
    """The columns that matter, the first most."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(description="The metric that becomes worse when a column is shuffled.")
    rows: int = Field(description="Rows that were shuffled.")
    repeats: int = Field(description="Shuffles of each column.")
    permutation: list[ColumnImportance] = Field(description="Of the columns of the raw table.")
    native: list[ColumnImportance] = Field(
        description="What the model itself says of its inputs, which preprocessing may have made; shares."
    )


def importance(
    bundle: Bundle,
    table: pd.DataFrame,
    labels: NDArray[Any],
    metric: str,
    worse: Callable[[NDArray[Any], NDArray[np.float32]], float],
    budget_s: float,
    seed: int = 0,
) -> Importance | None:
    """Permutation importance on held-out rows (Breiman 2001), beside the model's own count.

    Args:
        bundle: The model.
        table: Raw rows.
        labels: Their labels, as the model counts them.
        metric: Name of the metric.
        worse: Gives the metric of labels and scores, signed so that more is worse.
        budget_s: About how long it may take: fewer shuffles, then fewer rows are taken for it.
        seed: Start of the shuffling.

    Returns:
        None where even the fewest rows would take many times the budget.
    """
    native = _own(bundle)
    names = [feature.name for feature in bundle.features]
    if len(names) > MOST_COLUMNS:
        return None
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(len(table), min(len(table), MOST_ROWS), replace=False))
    table, labels = table.iloc[rows].reset_index(drop=True), labels[rows]
    bundle.predict_table(table[:1])  # what is only slow once
    began = time.perf_counter()
    plain = worse(labels, bundle.predict_table(table))
    took_s = time.perf_counter() - began
    affordable = budget_s / max(took_s * len(names), 1e-9)
    if affordable < 1:
        fewer = int(len(table) * affordable)
        if fewer < LEAST_ROWS:
            if fewer < LEAST_ROWS / 4:
                return None
            fewer = min(LEAST_ROWS, len(table))
        table, labels = table.iloc[:fewer], labels[:fewer]
        plain = worse(labels, bundle.predict_table(table))
    repeats = int(min(max(affordable, 1), MOST_REPEATS))
    drops = np.zeros((len(names), repeats))
    for column, name in enumerate(names):
        kept = table[name]
        shuffled = table.copy(deep=False)
        for repeat in range(repeats):
            shuffled[name] = kept.iloc[random.permutation(len(kept))].array
            drops[column, repeat] = worse(labels, bundle.predict_table(shuffled)) - plain
    found = [
        ColumnImportance(name=name, importance=float(row.mean()), deviation=float(row.std()))
        for name, row in zip(names, drops, strict=True)
    ]
    return Importance(
        metric=metric, rows=len(table), repeats=repeats, permutation=_most(found), native=_most(native)
    )


def _own(bundle: Bundle) -> list[ColumnImportance]:
    """What a model itself says of its inputs; nothing where it has no such word."""
    tells = getattr(bundle.model, "importance", None)
    shares = tells() if tells is not None else None
    names = bundle.description.inputs if shares is not None else ()
    if shares is None or shares.shape != (len(names),):
        return []
    return [
        ColumnImportance(name=name, importance=float(share))
        for name, share in zip(names, shares, strict=True)
    ]


def _most(columns: list[ColumnImportance]) -> list[ColumnImportance]:
    return sorted(columns, key=lambda column: -column.importance)[:MOST_KEPT]
