"""How rows stand to all other rows: copies in other splits, ids given twice, sizes of classes.

This is the part of a validation that no worker can do by itself. It works on the small arrays of the
first pass: 16 bytes a row of a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.data.manifest import Manifest
from tasks.data.shards import Shard
from tasks.data.validation.facts import Summary
from tasks.data.validation.media_facts import Ragged


@dataclass(frozen=True)
class Standing:
    """How the n rows of a shard stand to the rest of their version; small, so that it travels.

    Attributes:
        repeated: Positions of rows whose id stands elsewhere too.
        copied: Positions of rows whose content stands in another split too.
        rows_of_class: Rows (or objects) of each class number, over all splits.
        trained: Class numbers that the training rows have.
        media: Facts of the first pass, [n] each.
        categories: Class numbers of each row's objects or map; None where a row has one class.
    """

    repeated: np.ndarray
    copied: np.ndarray
    rows_of_class: dict[int, int]
    trained: frozenset[int]
    media: dict[str, np.ndarray] = field(default_factory=dict)
    categories: Ragged | None = None

    def smallest_class(self) -> np.ndarray:
        """float64 [n]: size of the smallest class that a row has; NaN without any."""
        assert self.categories is not None
        sizes = self._by_class({number: float(rows) for number, rows in self.rows_of_class.items()})
        return self.categories.reduced(sizes, np.minimum, np.nan)

    def trained_classes(self) -> np.ndarray:
        """Bool [n]: all classes of a row are among the training rows."""
        assert self.categories is not None
        known = self._by_class({number: number in self.trained for number in self.rows_of_class})
        return self.categories.reduced(known, np.logical_and, True)

    def _by_class(self, value_of: Mapping[int, float] | Mapping[int, bool]) -> np.ndarray:
        assert self.categories is not None
        numbers, places = np.unique(self.categories.values, return_inverse=True)
        return np.array([value_of[number] for number in numbers.tolist()])[places]


@dataclass(frozen=True)
class Totals:
    """Counts over a whole version.

    Attributes:
        rows: All rows.
        unlabelled: Rows without a label.
        labels: Rows (or objects, or maps) of each class number, by split.
        gaps: Missing values of each table column.
        label_range: Smallest and largest label of a regression; None without any.
    """

    rows: int
    unlabelled: int
    labels: dict[str, Counter[int]]
    gaps: Counter[str]
    label_range: tuple[float, float] | None


def rows_of_classes(totals: Totals, manifest: Manifest) -> list[int]:
    """Rows (or objects, or maps) of every class, over all splits."""
    return [sum(split[number] for split in totals.labels.values()) for number in range(len(manifest.classes))]


def totals_of(shards: Sequence[Shard], summaries: Sequence[Summary]) -> Totals:
    """Counts over all shards."""
    labels: dict[str, Counter[int]] = {shard.file.split: Counter() for shard in shards}
    gaps: Counter[str] = Counter()
    for shard, summary in zip(shards, summaries, strict=True):
        labels[shard.file.split].update(summary.labels)
        gaps.update(summary.gaps)
    spans = [summary.label_range for summary in summaries if summary.label_range]
    span = (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None
    unlabelled = sum(summary.unlabelled for summary in summaries)
    return Totals(sum(len(summary.ids) for summary in summaries), unlabelled, labels, gaps, span)


def standings_of(shards: Sequence[Shard], summaries: Sequence[Summary], totals: Totals) -> list[Standing]:
    """The standing of each shard's rows."""
    repeated = _repeated([summary.ids for summary in summaries])
    contents: dict[str, list[np.ndarray]] = {}
    for shard, summary in zip(shards, summaries, strict=True):
        if summary.contents is not None:
            contents.setdefault(shard.file.split, []).append(summary.contents)
    copied = _shared(list(contents.values()))
    rows_of_class = dict(sum(totals.labels.values(), Counter()))
    trained = frozenset(number for number, count in totals.labels.get("train", {}).items() if count)
    return [
        Standing(
            repeated=_places(summary.ids, repeated),
            copied=_places(summary.contents, copied),
            rows_of_class=rows_of_class,
            trained=trained,
            media=summary.media,
            categories=summary.categories,
        )
        for summary in summaries
    ]


def rows_by_class(totals: Totals, manifest: Manifest) -> dict[str, dict[str, int]]:
    """Rows (or objects, or maps) of every class in every split; rows without label are not counted."""
    return {
        split: {name: totals.labels[split][number] for number, name in enumerate(manifest.classes)}
        for split in manifest.splits
        if manifest.classes
    }


def _repeated(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Values that occur more than once, sorted."""
    values = _sorted(parts)
    return np.unique(values[1:][values[1:] == values[:-1]])


def _shared(groups: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Values that occur in more than one group, sorted."""
    if len(groups) < 2:
        return np.empty(0, np.uint64)
    found = []
    ordered = [_sorted(group) for group in groups]
    for place, one in enumerate(ordered):
        for other in ordered[place + 1 :]:
            small, large = sorted((one, other), key=len)
            found.append(np.unique(small[_places(small, large)]))
    return np.unique(np.concatenate(found))


def _sorted(parts: Sequence[np.ndarray]) -> np.ndarray:
    values = np.concatenate(parts)
    values.sort()  # in place: these are the largest arrays of a validation
    return values


def _places(values: np.ndarray | None, chosen: np.ndarray) -> np.ndarray:
    """Positions of the values that are among the chosen ones, which are sorted."""
    if values is None or not len(chosen):
        return np.empty(0, np.int64)
    places = np.minimum(np.searchsorted(chosen, values), len(chosen) - 1)
    return np.flatnonzero(chosen[places] == values)
