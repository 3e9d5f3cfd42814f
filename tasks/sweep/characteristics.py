"""What a stored dataset version is like, for the order in which a sweep tries algorithms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tasks.data.read import raw_manifest, read_raw_rows
from tasks.train.algorithms.suitability import Characteristics
from tasks.train.training_data import read_training_data

if TYPE_CHECKING:
    from tasks.data.storage.store import DatasetStore
    from tasks.refs import DatasetRef

SAMPLED_ROWS = 5_000
"""Raw training rows, evenly spread, that missing values are counted in."""


def characteristics(store: DatasetStore, ref: DatasetRef) -> Characteristics:
    """What a preprocessed version is like."""
    data = read_training_data(store, ref)
    raw = raw_manifest(store, store.open(ref))
    counts = np.bincount(data.train.labels) if ref.problem.is_classification else np.ones(1)
    fair = len(data.train) / max(len(data.classes), 1)
    kinds = [feature.type == "categorical" for feature in raw.features]
    missing = 0.0
    if ref.problem.is_table:
        table = read_raw_rows(store, ref, "train", SAMPLED_ROWS, spread=True).table
        assert table is not None  # which is what a split of a table has
        missing = float(table.isna().to_numpy().mean()) if table.size else 0.0
    return Characteristics(
        problem=ref.problem,
        train_rows=len(data.train),
        columns=len(data.inputs),
        classes=len(data.classes),
        smallest_class_share=float(counts.min() / fair) if ref.problem.is_classification else 1.0,
        image_side_px=0 if ref.problem.is_table else int(max(data.train.inputs.shape[1:3])),
        categorical_share=sum(kinds) / max(len(kinds), 1),
        missing_share=missing,
    )
