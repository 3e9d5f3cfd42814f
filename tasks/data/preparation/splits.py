"""Division of rows into splits, by what the rows contain.

A row's place depends on its content (or its group), its class and the seed, not on the order of the rows,
so the same data is divided alike wherever it comes from, and rows with equal keys are always together.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    """Assign rows to splits. Memory: about 20 bytes a row, beside the keys and classes.

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
    return all((divided == place).any() for place in range(shares + 1))


def _divide(
    keys: np.ndarray, classes: np.ndarray | None, shares: Mapping[str, float], seed: int
) -> np.ndarray:
    """As `divide`: in each class, rows by rank up to the first limit are the first split, and so on.

    A limit that falls on rows of one key takes them in if more than half of them lie below it.
    """
    rank = _mixed(keys, seed)  # a bijection: equal where and only where the keys are
    if classes is not None:
        classes = _settled(rank, classes)
    limits = np.cumsum(list(shares.values()))
    divided = np.zeros(len(rank), np.int8)
    for label in [None] if classes is None else np.unique(classes):
        of_class = slice(None) if classes is None else classes == label
        ranks = rank[of_class]
        ordered = np.sort(ranks)
        beyond = np.zeros(len(ranks), np.int8)
        for limit in np.floor(limits * len(ordered) + 0.5):
            first = _first_beyond(ordered, limit)
            if first is not None:
                beyond += ranks >= first
        # Beyond no limit is the first split, 1; beyond all of them is the rest, 0.
        divided[of_class] = (beyond + 1) % (len(limits) + 1)
    return divided


def _first_beyond(ordered: np.ndarray, limit: float) -> np.uint64 | None:
    """The smallest rank whose rows have their middle beyond so many rows; None if there is none."""
    place = int(limit)
    if place >= len(ordered):
        return None
    start, end = (np.searchsorted(ordered, ordered[place], side) for side in ("left", "right"))
    if (start + end) / 2 > limit:
        return np.uint64(ordered[place])
    return np.uint64(ordered[end]) if end < len(ordered) else None


def _settled(rank: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Classes to count rows by: one for all rows of one rank.

    Rows of one key may be of several classes, above all where keys are groups. Such rows count for the
    class that they have most of, in relation to how frequent it is in all rows, so that groups with rare
    classes are divided evenly.
    """
    ordered = np.sort(rank)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not len(repeated):
        return classes
    labels, counts = np.unique(classes, return_counts=True)
    group = np.searchsorted(repeated, rank).astype(np.int32)
    np.minimum(group, len(repeated) - 1, out=group)
    rows = repeated[group] == rank
    group = group[rows]
    pairs = group.astype(np.int64) * len(labels)
    pairs += np.searchsorted(labels, classes[rows])
    pairs, sizes = np.unique(pairs, return_counts=True)
    groups, of_label = np.divmod(pairs, len(labels))
    # By group, then by how much more of the class is in it than elsewhere; the first class of equals.
    order = np.lexsort((of_label, -sizes / counts[of_label], groups))
    best = order[np.flatnonzero(np.diff(groups[order], prepend=-1))]
    settled = classes.copy()
    settled[rows] = labels[of_label[best]][group]
    return settled


def _mixed(keys: np.ndarray, seed: int) -> np.ndarray:
    """The keys in an order that looks random: the finaliser of SplitMix64 over key and seed."""
    mixed = keys.astype(np.uint64)
    for start in range(0, len(mixed), 2**20):  # in place and in blocks: it takes no memory of its own
        value = mixed[start : start + 2**20]
        value += np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
        value ^= value >> np.uint64(30)
        value *= np.uint64(0xBF58476D1CE4E5B9)
        value ^= value >> np.uint64(27)
        value *= np.uint64(0x94D049BB133111EB)
        value ^= value >> np.uint64(31)
    return mixed
