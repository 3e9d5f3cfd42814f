"""Properties that every division of rows into splits has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data.splits import divide
from tasks.errors import InvalidData

SHARES = {"validation": 0.15, "test": 0.15}


@st.composite
def rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    count = draw(st.integers(20, 300))
    keys = draw(st.lists(st.integers(0, 2**64 - 1), min_size=count, max_size=count, unique=True))
    classes = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    return np.array(keys, np.uint64), np.array(classes, np.int64)


@given(rows(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_class_is_divided_by_its_shares(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    keys, classes = data
    split = divide(keys, classes, SHARES, seed)
    assert {"train", "validation", "test"} == set(split)
    sizes = np.bincount(classes)
    if all(size == 0 or size >= 7 for size in sizes):
        for label, size in enumerate(sizes):
            for name in SHARES:
                assert abs(np.sum((classes == label) & (split == name)) - 0.15 * size) <= 1


@given(rows(), st.integers(0, 1000), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_does_not_matter(
    data: tuple[np.ndarray, np.ndarray], seed: int, random: object
) -> None:
    keys, classes = data
    order = np.array(random.sample(range(len(keys)), len(keys)))  # type: ignore[attr-defined]
    split = divide(keys, classes, SHARES, seed)
    assert (divide(keys[order], classes[order], SHARES, seed) == split[order]).all()


@given(st.lists(st.integers(0, 30), min_size=60, max_size=200), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_equal_rows_stay_together_whatever_their_labels(contents: list[int], seed: int) -> None:
    keys = np.array([*contents, *range(31)], np.uint64)
    classes = np.arange(len(keys), dtype=np.int64) % 3
    split = divide(keys, classes, SHARES, seed)
    for key in np.unique(keys):
        assert len(set(split[keys == key])) == 1


def test_another_seed_gives_another_division() -> None:
    keys = np.arange(1000, dtype=np.uint64)
    one, other = (divide(keys, None, SHARES, seed) for seed in (0, 1))
    assert np.sum(one == "test") == np.sum(other == "test") == 150
    assert (one != other).any()


def test_many_tiny_classes_still_fill_every_split() -> None:
    keys = np.arange(30, dtype=np.uint64)
    assert {"train", "validation", "test"} == set(divide(keys, keys.astype(np.int64) // 3, SHARES, 0))


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InvalidData, match="2 different rows are too few"):
        divide(np.array([1, 2, 2], np.uint64), None, SHARES, 0)
