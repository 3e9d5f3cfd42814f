"""Split unlabelled items evenly over annotators."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tasks.errors import InvalidSettings


def assign(items: Sequence[str], annotators: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Give every item to one annotator; no two shares differ by more than one item.

    The items are shuffled first, since a folder is often sorted by when and where it was recorded,
    and one annotator should not get all of one kind.

    Args:
        items: Ids of the items, distinct.
        annotators: People, distinct.
        seed: The same seed, items and annotators give the same shares.

    Returns:
        Ids by annotator, each share in the order of `items`.

    Raises:
        InvalidSettings: There is no item, or more annotators than items.
    """
    if not items:
        raise InvalidSettings("There is nothing to label", mend="choose a dataset with unlabelled items")
    if len(annotators) > len(items):
        raise InvalidSettings(
            f"There are {len(annotators)} annotators for {len(items)} items",
            allowed=f"1 to {len(items)} annotators",
            mend="leave some annotators out",
        )
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)
    return {
        name: [items[index] for index in sorted(order[place :: len(annotators)])]
        for place, name in enumerate(annotators)
    }
