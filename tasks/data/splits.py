"""Division of rows into splits, by what the rows contain.

A row's place depends on its content (or its group), its class and the seed, not on the order of the rows,
so the same data is divided alike wherever it comes from, and rows with equal keys are always together.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from tasks.errors import InvalidData


def divide(
    keys: np.ndarray,
    classes: np.ndarray | None,
    shares: Mapping[str, float],
    seed: int,
    rest: str = "train",
    what: str = "rows",
) -> np.ndarray:
    """Assign rows to splits. Memory: about 30 bytes a row.

    Args:
        keys: uint64 [n], equal for rows that must stay together: of equal content, or of one group.
        classes: int [n] to keep the share of every class, or None to ignore them.
        shares: Share of all rows, 0 to 1, for each split to be filled.
        seed: Another seed gives another division.
        rest: Split of all other rows.
        what: What differs by its key, for messages.

    Returns:
        int8 [n]: 0 for `rest`, 1 for the first of the shares and so on.

    Raises:
        InvalidData: There are too few different rows for every split to have one.
    """
    if classes is not None:
        divided = _divide(keys, classes, shares, seed)
        if _complete(divided, len(shares)):
            return divided
        # Classes so small that none gives a row to some split: fill the splits from all rows.
    divided = _divide(keys, None, shares, seed)
    if not _complete(divided, len(shares)):
        raise InvalidData(
            f"{len(np.unique(keys)):,} different {what} are too few to divide into "
            f"{', '.join([rest, *shares])}",
            allowed="at least one in each",
            mend="add rows, or bring the splits along as files or folders of these names",
        )
    return divided


def _complete(divided: np.ndarray, shares: int) -> bool:
    return bool(np.bincount(divided, minlength=shares + 1).all())


def _divide(
    keys: np.ndarray, classes: np.ndarray | None, shares: Mapping[str, float], seed: int
) -> np.ndarray:
    rank = _mixed(keys, seed)  # a bijection: equal where and only where the keys are
    order = np.argsort(rank, kind="stable")
    rank = rank[order]
    starts = np.flatnonzero(np.concatenate([[True], rank[1:] != rank[:-1]]))
    del rank
    copies = np.diff(np.append(starts, len(order)))
    members = np.arange(len(starts))
    bounds = np.array([0, len(starts)])
    if classes is not None:
        class_of = _classes_of(classes[order], starts, copies)
        members = np.argsort(class_of, kind="stable")  # by class, and within by rank
        bounds = np.flatnonzero(np.diff(class_of[members], prepend=-2, append=np.iinfo(np.int64).max))
    limits = np.cumsum(list(shares.values()))
    chosen = np.zeros(len(starts), np.int8)
    for first, last in pairwise(bounds.tolist()):
        of_class = members[first:last]
        ends = np.cumsum(copies[of_class])
        cuts = np.floor(limits * ends[-1] + 0.5)
        middles = ends - copies[of_class] / 2
        # Up to the first cut the first split, up to the second the next; what is beyond all is the rest.
        place = np.searchsorted(cuts, middles, "left") + 1
        chosen[of_class] = np.where(place > len(cuts), 0, place)
    divided = np.empty(len(order), np.int8)
    divided[order] = np.repeat(chosen, copies)
    return divided


def _classes_of(classes: np.ndarray, starts: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """One class for each key, to count it by: int64, at least 0.

    Rows of one key may be of several classes, above all where keys are groups. Such a group counts for
    the class that it has most of, in relation to how frequent the class is in all rows, so that groups
    with rare classes are divided evenly.

    Args:
        classes: int [n] in the order of the keys.
        starts: Where the rows of each key start.
        copies: How many rows each key has.
    """
    classes = classes.astype(np.int64)
    classes -= classes.min(initial=0)
    class_of: np.ndarray = classes[starts]
    mixed = np.flatnonzero(np.minimum.reduceat(classes, starts) != np.maximum.reduceat(classes, starts))
    share = np.bincount(classes) / max(1, len(classes))
    for place in mixed:
        own = np.bincount(classes[starts[place] : starts[place] + copies[place]], minlength=len(share))
        class_of[place] = np.argmax(own / np.maximum(share, np.finfo(float).tiny))
    return class_of


def _mixed(keys: np.ndarray, seed: int) -> np.ndarray:
    """The keys in an order that looks random: the finaliser of SplitMix64 over key and seed."""
    value = keys.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
