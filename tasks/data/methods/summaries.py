"""Sums, order statistics and counts of columns whose values never come together in one process.

Each is found by questions to batches of rows, whose answers are small. The results are exact, so they
do not depend on how the rows were cut into batches.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from tasks.data.methods.method import Ask

MOST_VALUES = 50_000
"""A column with more different values is no category: nothing is counted by its values."""

POINTS = 4_000_000
"""Values that all batches together send for one round of order statistics."""

_BITS = 26


class ExactSum:
    """A sum of float64 values without rounding, as whole numbers by binary exponent."""

    def __init__(self, values: np.ndarray | None = None) -> None:
        self.count = 0
        self._parts: Counter[int] = Counter()
        self._overflown = False
        if values is None or not len(values):
            return
        self.count = len(values)
        if not np.isfinite(values).all():
            self._overflown = True
            return
        mantissa, exponent = np.frexp(values)
        whole = (mantissa * 2.0**53).astype(np.int64)
        lowest = int(exponent.min())
        place = exponent - lowest
        # Two halves, so that the sums of float64 weights are exact for as many rows as fit in memory.
        high = np.bincount(place, weights=(whole >> _BITS).astype(np.float64))
        low = np.bincount(place, weights=(whole & (2**_BITS - 1)).astype(np.float64))
        for index in np.flatnonzero((high != 0) | (low != 0)):
            self._parts[lowest + int(index) - 53] = (int(high[index]) << _BITS) + int(low[index])

    def add(self, other: ExactSum) -> None:
        self.count += other.count
        self._overflown |= other._overflown
        for exponent, part in other._parts.items():
            self._parts[exponent] += part

    def divided(self, divisor: int) -> float:
        """The sum divided by a whole number, rounded once; infinite where a value was."""
        if self._overflown:
            return math.inf
        lowest = min(self._parts, default=0)
        whole = sum(part << (exponent - lowest) for exponent, part in self._parts.items())
        scale = Fraction(2) ** lowest
        return float(Fraction(whole) * scale / divisor)

    @property
    def mean(self) -> float:
        """The mean; NaN without values."""
        return self.divided(self.count) if self.count else math.nan


def added(answers: Iterable[Mapping[str, ExactSum]]) -> dict[str, ExactSum]:
    """Sums by column, over all batches."""
    totals: dict[str, ExactSum] = {}
    for answer in answers:
        for column, part in answer.items():
            totals.setdefault(column, ExactSum()).add(part)
    return totals


@dataclass(frozen=True)
class Ranks:
    """A question for order statistics.

    Attributes:
        points: How many values a batch may send for one bracket.
        brackets: For each column, open intervals in which values are looked for.
    """

    points: int
    brackets: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class _Sample:
    """What a batch says about one bracket (low, high).

    Attributes:
        below: Values below `low`.
        at_low: Values equal to `low`.
        inside: Values between.
        values: Some of the values between, sorted, each once; all of them where few are there.
        upto: int64: how many values between are at most as large as each of `values`.
        before: int64: how many are smaller.
    """

    below: int
    at_low: int
    inside: int
    values: np.ndarray
    upto: np.ndarray
    before: np.ndarray


def sampled(question: Ranks, column: str, values: np.ndarray) -> list[_Sample]:
    """A batch's answer for one column; `values` has no NaN."""
    ordered = np.sort(values)
    return [_sample(ordered, low, high, question.points) for low, high in question.brackets[column]]


def _sample(ordered: np.ndarray, low: float, high: float, points: int) -> _Sample:
    below, start = np.searchsorted(ordered, low, "left"), np.searchsorted(ordered, low, "right")
    inside = ordered[start : np.searchsorted(ordered, high, "left")]
    if len(inside):
        first = np.flatnonzero(np.concatenate([[True], inside[1:] != inside[:-1]]))
        if len(first) > points:
            # Evenly by rows; a value that stands often is taken once.
            wanted = np.linspace(0, len(inside) - 1, points).astype(np.int64)
            places = np.unique(np.searchsorted(first, wanted, "right") - 1)
        else:
            places = np.arange(len(first))
        ends = np.append(first[1:], len(inside))
        return _Sample(
            int(below), int(start - below), len(inside), inside[first[places]], ends[places], first[places]
        )
    nothing = np.empty(0, np.int64)
    return _Sample(int(below), int(start - below), 0, np.empty(0), nothing, nothing)


@dataclass
class _Search:
    """Where the value of one rank is known to be."""

    rank: int
    low: float = -math.inf
    high: float = math.inf
    found: float | None = None

    def narrow(self, samples: Sequence[_Sample]) -> None:
        """Take in the answers of all batches."""
        below = sum(sample.below for sample in samples)
        upto_low = below + sum(sample.at_low for sample in samples)
        inside = sum(sample.inside for sample in samples)
        if self.rank < upto_low:
            self.found = self.low
            return
        if self.rank >= upto_low + inside:
            self.found = self.high
            return
        rank = self.rank - upto_low
        # At every sampled value: how many values are at most as large, counted from below (`least`), and
        # how many are smaller, counted from above (`most`). A batch between two of its samples may hide
        # values, which the one leaves out and the other takes in.
        full = [sample for sample in samples if sample.inside]
        values = np.concatenate([sample.values for sample in full])
        least_steps = np.concatenate([np.diff(sample.upto, prepend=0) for sample in full])
        most_steps = np.concatenate([np.diff(np.append(sample.before, sample.inside)) for sample in full])
        start = sum(int(sample.before[0]) for sample in full)
        order = np.argsort(values, kind="stable")
        values = values[order]
        unique, first = np.unique(values, return_index=True)
        last = np.append(first[1:], len(values)) - 1
        least = np.cumsum(least_steps[order])[last]
        climbed = np.concatenate([[0], np.cumsum(most_steps[order])])
        most = start + climbed[first]
        self.low = float(unique[np.flatnonzero(most <= rank)[-1]])
        self.high = float(unique[np.flatnonzero(least > rank)[0]])
        if self.low >= self.high:
            self.found = self.high


def quantiles(ask: Ask, columns: Sequence[str], shares: Sequence[float]) -> dict[str, list[float]]:
    """For each column the values below which these shares of its values lie, as numpy computes them.

    A worker's `summarise` answers a `Ranks` question by `sampled` for each column. A column without
    values gets an empty list.
    """
    sizes: dict[str, int] = {}
    searches: dict[str, dict[int, _Search]] = {}
    everywhere = {column: [(-math.inf, math.inf)] for column in columns}
    first = _gathered(ask(Ranks(max(16, min(1024, POINTS // max(1, 64 * len(columns)))), everywhere)))
    batches = max((len(samples) for samples in first.values()), default=0)
    for column, samples in first.items():
        sizes[column] = sum(sample.inside for (sample,) in samples)
        last = sizes[column] - 1
        ranks = {place for share in shares for place in _places(share, last)[:2]} if last >= 0 else set()
        searches[column] = {rank: _Search(rank) for rank in sorted(ranks)}
        for search in searches[column].values():
            search.narrow([sample for (sample,) in samples])
    while True:
        open_: dict[str, dict[tuple[float, float], list[_Search]]] = {}
        for column, found in searches.items():
            for search in found.values():
                if search.found is None:
                    open_.setdefault(column, {}).setdefault((search.low, search.high), []).append(search)
        if not open_:
            break
        brackets = {column: list(which) for column, which in open_.items()}
        parts = batches * sum(len(which) for which in brackets.values())
        question = Ranks(max(16, min(1024, POINTS // parts)), brackets)
        answers = _gathered(ask(question))
        for column, which in open_.items():
            for place, waiting in enumerate(which.values()):
                for search in waiting:
                    search.narrow([of_batch[place] for of_batch in answers[column]])
    result: dict[str, list[float]] = {}
    for column in columns:
        result[column] = []
        for share in shares if sizes.get(column) else ():
            low, high, part = _places(share, sizes[column] - 1)
            smaller, larger = searches[column][low].found, searches[column][high].found
            assert smaller is not None
            assert larger is not None
            result[column].append(smaller + (larger - smaller) * part)
    return result


def _gathered(answers: Iterable[Mapping[str, list[_Sample]]]) -> dict[str, list[list[_Sample]]]:
    """Samples by column, of every batch."""
    samples: dict[str, list[list[_Sample]]] = {}
    for answer in answers:
        for column, of_batch in answer.items():
            samples.setdefault(column, []).append(of_batch)
    return samples


def _places(share: float, last: int) -> tuple[int, int, float]:
    """The ranks on both sides of a quantile, and how far it lies between them."""
    place = share * last
    low = min(math.floor(place), last)
    return low, min(low + 1, last), place - low


@dataclass
class Tally:
    """How often each value occurs; None once there are more than `MOST_VALUES` of them."""

    counts: dict[Any, int] | None = field(default_factory=dict)

    @classmethod
    def of(cls, values: Any) -> Tally:
        """Of a column without gaps."""
        import pandas as pd

        codes, unique = pd.factorize(values)
        if len(unique) > MOST_VALUES:
            return cls(None)
        counts = np.bincount(codes, minlength=len(unique)).tolist()
        return cls(dict(zip(unique.tolist(), counts, strict=True)))

    def add(self, other: Tally) -> None:
        if self.counts is None or other.counts is None:
            self.counts = None
            return
        for value, count in other.counts.items():
            self.counts[value] = self.counts.get(value, 0) + count
        if len(self.counts) > MOST_VALUES:
            self.counts = None

    @property
    def most_frequent(self) -> Any:
        """The value that occurs most often, the smallest of several; None if there is none."""
        if not self.counts:
            return None
        return min(self.counts, key=lambda value: (-self.counts[value], value))  # type: ignore[index]


def tallied(answers: Iterable[Mapping[str, Tally]]) -> dict[str, Tally]:
    """Counts by column, over all batches."""
    totals: dict[str, Tally] = {}
    for answer in answers:
        for column, part in answer.items():
            if column in totals:
                totals[column].add(part)
            else:
                totals[column] = Tally(None if part.counts is None else dict(part.counts))
    return totals
