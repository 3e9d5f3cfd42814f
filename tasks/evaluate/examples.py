"""Held-out rows as a client sends them, with the scores that the evaluation saw.

They are stored with a registered version, and whoever serves it can tell that it answers the same.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from tasks.errors import NotFound
from tasks.train import tags

if TYPE_CHECKING:
    import pandas as pd

    from tasks.data.read import RawSplit
    from tasks.data.storage.store import DatasetStore
    from tasks.refs import DatasetRef

#: Tags of a registered version.
DIGEST_TAG = tags.BUNDLE_DIGEST_TAG
EXAMPLES_TAG = tags.EXAMPLES_TAG
EVALUATION_TAG = tags.EVALUATION_TAG


def sendable_rows(raw: RawSplit, count: int) -> list[int]:
    """Numbers of the first rows that a client could send: those without a missing value."""
    if raw.table is None:
        return list(range(min(count, len(raw.ids))))
    whole = raw.table.notna().all(axis=1).to_numpy().nonzero()[0]
    return [int(row) for row in whole[:count]]


def read_sendable(store: DatasetStore, ref: DatasetRef, split: str, count: int) -> RawSplit:
    """Raw rows of a split with at least so many that a client could send, where there are as many.

    Decodes no more than it must: rows with missing values are rare, and only then the whole split is read.
    """
    from tasks.data.read import read_raw_rows

    raw = read_raw_rows(store, ref, split, limit=count)
    if len(sendable_rows(raw, count)) == count:
        return raw
    return read_raw_rows(store, ref, split)


def instances_of(raw: RawSplit, rows: list[int]) -> list[Any]:
    """Raw rows as the `instances` of a request."""
    if raw.contents is not None:
        return [{"data": base64.b64encode(raw.contents[row]).decode()} for row in rows]
    assert raw.table is not None  # a split has either images or a table
    return [[_plain(value) for value in raw.table.iloc[row].tolist()] for row in rows]


def scores_of(predictions: pd.DataFrame, ids: list[str]) -> list[Any]:
    """Stored scores of rows: lists of probabilities, or values for regression.

    Args:
        predictions: As `tasks.evaluate.evaluate.Predictions.frame` gives them.
        ids: Row ids.

    Raises:
        NotFound: A row is not among the predictions.
    """
    by_id = predictions.set_index("id")
    missing = [row for row in ids if row not in by_id.index]
    if missing:
        raise NotFound(f"the evaluation has no prediction for {missing[0]}", mend="evaluate again")
    column = "scores" if "scores" in by_id.columns else "prediction"
    return [value.tolist() if hasattr(value, "tolist") else value for value in by_id.loc[ids, column]]


def _plain(value: Any) -> Any:
    """A value as JSON has it: numpy's numbers become Python's."""
    return value.item() if hasattr(value, "item") else value
