"""A dataset version is summarised and sampled as it is stored."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tasks.data.storage.store import DatasetStore
from tasks.refs import Problem
from tasks.report import dataset, samples
from tests.helpers.stored_datasets import store_images, store_table


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return DatasetStore(str(tmp_path))


def test_images_are_counted_by_class_and_split(store: DatasetStore) -> None:
    rows = {
        "train": [(f"train/{i}.png", i % 3) for i in range(30)] + [("train/x.png", None)],
        "test": [("test/0.png", 2)],
    }
    ref = store_images(store, "shapes", rows, ("circle", "line|bar", "square"))
    summary = dataset.summarise(store, store.open(ref))

    assert summary.counts == {"train": [10, 10, 10], "test": [0, 0, 1]}
    assert summary.unlabelled == 1
    page = dataset.render(summary)
    assert "| line\\|bar | 10 | 0 | 10 |" in page
    assert "without a label" in page


def test_samples_take_the_classes_in_turn_and_pair_up_with_the_raw_ones(store: DatasetStore) -> None:
    classes = ("a", "b", "c", "d")
    rows = {"train": [(f"{i}.png", 0 if i < 90 else i % 4) for i in range(100)]}
    raw = store_images(store, "shapes", rows, classes)
    made = store_images(store, "shapes", rows, classes, parent=raw.version, side_px=16)

    alone = samples.image_samples(store, store.open(raw), split="train")
    assert alone.before is None
    assert sorted(alone.captions[:4]) == list(classes)
    assert len(alone.images) == samples.SAMPLES

    pairs = samples.image_samples(store, store.open(made), split="train")
    assert pairs.before is not None
    assert [image.size for image in pairs.images] == [(16, 16)] * samples.SAMPLES_BESIDE_RAW
    assert [image.size for image in pairs.before] == [(8, 8)] * samples.SAMPLES_BESIDE_RAW
    again = samples.image_samples(store, store.open(made), split="train")
    assert again.captions == pairs.captions


def test_columns_of_a_regression_include_the_label(store: DatasetStore) -> None:
    frame = pd.DataFrame({"size": [1.0, 2.0, None], "kind": ["a", "b", "a"], "label": [10.0, 20.0, 60.0]})
    ref = store_table(store, "houses", {"train": frame}, Problem.TABLE_REGRESSION)
    summary = dataset.summarise(store, store.open(ref))

    assert summary.counts == {}
    size, kind, label = summary.columns
    assert size.missing == 1
    assert kind.top[0] == ("a", 2)
    assert label.mean == 30.0
    assert "## Columns" in dataset.render(summary)
