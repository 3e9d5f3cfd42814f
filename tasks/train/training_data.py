"""A dataset version as the arrays that a fit takes."""

from __future__ import annotations

from functools import partial

import numpy as np

from tasks.data.read import ImageSplit, TableSplit, read_fold, read_split
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData
from tasks.refs import DatasetRef
from tasks.train.algorithms.fit import Rows, TrainingData


def folds_of(store: DatasetStore, ref: DatasetRef) -> int:
    """Folds that a version is divided into for cross-validation; 0 where it has a validation split."""
    manifest = store.open(ref)
    return 0 if manifest.splits.get("validation") else manifest.folds


def read_training_data(store: DatasetStore, ref: DatasetRef, fold: int | None = 0) -> TrainingData:
    """Read the train and validation splits of a preprocessed version into memory.

    Args:
        store: Where the version is.
        ref: The version.
        fold: The fold that stands in for the validation split of a version that is divided for
            cross-validation, and has none; None leaves all rows for training.

    Raises:
        InvalidData: Nothing can be learned from the rows: one class, one row, no feature.
    """
    manifest = store.open(ref)
    validation: ImageSplit | TableSplit | None = None
    if manifest.splits.get("validation"):
        train, validation = read_split(store, ref, "train"), read_split(store, ref, "validation")
    elif manifest.folds and fold is not None:
        train, validation = read_fold(store, ref, fold)
    else:
        train = read_split(store, ref, "train")
    inputs = tuple(map(str, train.features.columns)) if isinstance(train, TableSplit) else ()
    seen = len(np.unique(train.labels)) if manifest.label else _distinct_rows(train)
    if seen < 2 or (isinstance(train, TableSplit) and not inputs):
        raise InvalidData(
            f"there is nothing to learn: {len(train.ids)} training rows of {ref} "
            f"with {len(inputs) or 'image'} feature{'s' if len(inputs) > 1 else ''} "
            f"and {seen} distinct {'label' if manifest.label else 'row'}{'s' if seen > 1 else ''}",
            where=f"label {manifest.label}, split train" if manifest.label else "split train",
            allowed=f"at least two {'classes or values' if manifest.label else 'rows'}, and one feature",
            mend="add rows of another class, or choose another label column"
            if manifest.label
            else "add rows that differ",
        )
    return TrainingData(
        problem=manifest.problem,
        train=_rows(train),
        validation=None if validation is None else _rows(validation),
        classes=tuple(manifest.classes),
        inputs=inputs,
        read=partial(read_training_data, store, ref, fold),
    )


def _distinct_rows(split: ImageSplit | TableSplit) -> int:
    return len(split.features.drop_duplicates()) if isinstance(split, TableSplit) else len(split.ids)


def _rows(split: ImageSplit | TableSplit) -> Rows:
    if isinstance(split, ImageSplit):
        return Rows(split.images, split.labels)
    return Rows(split.features.to_numpy(dtype=np.float64), split.labels)
