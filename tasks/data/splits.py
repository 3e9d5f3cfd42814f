"""Division of rows into splits, by what the rows contain.

A row's place depends on its content, its class and the seed, not on the order of the rows, so the same
data is divided alike wherever it comes from, and identical rows are always in the same split.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tasks.errors import InvalidData


def divide(
    keys: np.ndarray, classes: np.ndarray | None, shares: Mapping[str, float], seed: int, rest: str = "train"
) -> np.ndarray:
    """Assign rows to splits.

    Args:
        keys: uint64 [n], equal for rows with equal content.
        classes: int64 [n] to keep the share of every class, or None to ignore them.
        shares: Share of all rows, 0 to 1, for each split to be filled.
        seed: Another seed gives another division.
        rest: Split of all other rows.

    Returns:
        Names of splits, str objects [n].

    Raises:
        InvalidData: There are too few different rows for every split to have one.
    """
    if classes is not None:
        divided = _divide(keys, classes, shares, seed, rest)
        if _complete(divided, shares, rest):
            return divided
        # Classes so small that none gives a row to some split: fill the splits from all rows.
    divided = _divide(keys, np.zeros(len(keys), np.int64), shares, seed, rest)
    if not _complete(divided, shares, rest):
        raise InvalidData(
            f"{len(np.unique(keys))} different rows are too few to divide into {', '.join([rest, *shares])}",
            allowed="at least one row in each",
            mend="add rows, or bring the splits along as files or folders of these names",
        )
    return divided


def _complete(divided: np.ndarray, shares: Mapping[str, float], rest: str) -> bool:
    return {rest, *shares} <= set(divided.tolist())


def _divide(
    keys: np.ndarray, classes: np.ndarray, shares: Mapping[str, float], seed: int, rest: str
) -> np.ndarray:
    unique, place_of, copies = np.unique(keys, return_inverse=True, return_counts=True)
    # Copies of one row may be labelled differently; they stay together in the smallest of their classes.
    class_of = np.full(len(unique), np.iinfo(np.int64).max)
    np.minimum.at(class_of, place_of, classes)
    rank = _mixed(unique, seed)
    chosen = np.full(len(unique), rest, dtype=object)
    names = list(shares)
    limits = np.cumsum([shares[name] for name in names])
    for label in np.unique(class_of):
        members = np.flatnonzero(class_of == label)
        members = members[np.argsort(rank[members], kind="stable")]
        ends = np.cumsum(copies[members])
        cuts = np.floor(limits * ends[-1] + 0.5)
        middles = ends - copies[members] / 2
        for name, low, high in zip(names, [0.0, *cuts[:-1]], cuts, strict=True):
            chosen[members[(middles > low) & (middles <= high)]] = name
    return np.asarray(chosen[place_of])


def _mixed(keys: np.ndarray, seed: int) -> np.ndarray:
    """The keys in an order that looks random: the finaliser of SplitMix64 over key and seed."""
    value = keys.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
