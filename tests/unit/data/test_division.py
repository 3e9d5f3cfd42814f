"""Properties that every division of rows into splits has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data.preparation.splits import divide
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
    assert {0, 1, 2} == set(split.tolist())
    sizes = np.bincount(classes)
    if all(size == 0 or size >= 7 for size in sizes):
        for label, size in enumerate(sizes):
            for place in (1, 2):
                assert abs(np.sum((classes == label) & (split == place)) - 0.15 * size) <= 1


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
        assert len(set(split[keys == key].tolist())) == 1


@given(st.integers(2, 10), rows(), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_folds_are_of_one_size_and_evenly_of_every_class(
    folds: int, data: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    keys, classes = data
    shares = {f"fold {fold}": 1 / folds for fold in range(1, folds)}
    fold = divide(keys, classes, shares, seed, "fold 0")
    assert set(fold.tolist()) == set(range(folds))
    for label in np.unique(classes):
        sizes = np.bincount(fold[classes == label], minlength=folds)
        if np.bincount(classes)[label] >= folds:
            assert sizes.max() - sizes.min() <= 2


def test_another_seed_gives_another_division() -> None:
    keys = np.arange(1000, dtype=np.uint64)
    one, other = (divide(keys, None, SHARES, seed) for seed in (0, 1))
    assert np.sum(one == 2) == np.sum(other == 2) == 150
    assert (one != other).any()


def test_the_division_of_known_rows_stays_what_it_is() -> None:
    """Versions that were divided years ago must come out alike when they are made again."""
    split = divide(np.arange(20, dtype=np.uint64), np.arange(20) % 2, SHARES, 7)
    assert split.tolist() == [2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0]


def test_many_tiny_classes_still_fill_every_split() -> None:
    keys = np.arange(30, dtype=np.uint64)
    assert {0, 1, 2} == set(divide(keys, keys.astype(np.int64) // 3, SHARES, 0).tolist())


def test_groups_with_a_rare_class_are_divided_by_it() -> None:
    """Groups of ten rows, in one of five a single row of a rare class: every fold gets as many of those."""
    groups = np.repeat(np.arange(200, dtype=np.uint64), 10)
    classes = np.zeros(len(groups), np.int64)
    rare = np.arange(0, 200, 5) * 10
    classes[rare] = 1
    shares = {f"fold {fold}": 0.25 for fold in range(1, 4)}
    for seed in range(5):
        fold = divide(groups, classes, shares, seed, "fold 0")
        assert np.bincount(fold[rare]).tolist() == [10, 10, 10, 10]
        assert np.bincount(fold).tolist() == [500, 500, 500, 500]


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InvalidData, match="2 different rows are too few"):
        divide(np.array([1, 2, 2], np.uint64), None, SHARES, 0)
    with pytest.raises(InvalidData, match="2 different groups are too few to divide into train, validation"):
        divide(np.array([1] * 50 + [2] * 50, np.uint64), None, SHARES, 0, what="groups")
