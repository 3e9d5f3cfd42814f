"""Partitions: the rows of one shard that belong to one split, which is what a worker is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from tasks.data.shards import Shard

NEW_FOLD = "\0fold"
"""Name of the column of folds on the way; no column of a version has it."""


@dataclass(frozen=True)
class Partition:
    """Rows of one shard that belong to one split.

    Attributes:
        shard: Where they are.
        split: The split that they are in from now on.
        rows: int32: which they are; all of them where None.
        folds: int8: the fold of each of `rows`; None where the shard has its own, or there are none.
    """

    shard: Shard
    split: str
    rows: np.ndarray | None = None
    folds: np.ndarray | None = None

    @property
    def count(self) -> int:
        return self.shard.file.rows if self.rows is None else len(self.rows)

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """The rows, or some of their columns; `NEW_FOLD` stands last where they were given folds."""
        table = self.shard.read(columns)
        if self.rows is not None:
            table = table.take(pa.array(self.rows))
        if self.folds is not None:
            table = table.append_column(NEW_FOLD, pa.array(self.folds, pa.int64()))
        return table

    def only(self, chosen: np.ndarray) -> Partition:
        """Some of the rows, by their places in this partition."""
        rows = np.arange(self.count, dtype=np.int32) if self.rows is None else self.rows
        folds = None if self.folds is None else self.folds[chosen]
        return replace(self, rows=rows[chosen], folds=folds)

    def cut(self, most: int) -> list[Partition]:
        """Partitions of at most so many rows each."""
        if self.count <= most:
            return [self]
        count = -(-self.count // most)
        return [self.only(places) for places in np.array_split(np.arange(self.count), count)]


def cut(partitions: Sequence[Partition], most: int) -> list[Partition]:
    """The same rows in partitions of at most so many."""
    return [smaller for partition in partitions for smaller in partition.cut(most)]
