"""Sums, order statistics and counts found by questions are those of all values together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data.methods import summaries
from tasks.data.methods.summaries import ExactSum, Ranks, Tally, quantiles, sampled, tallied

FINITE = st.floats(-1e300, 1e300, allow_nan=False)
SHARES = [0, 0.25, 0.5, 0.9, 1]


def cut(values: np.ndarray, seed: int, parts: int = 5) -> list[np.ndarray]:
    places = np.sort(np.random.default_rng(seed).integers(0, len(values) + 1, parts - 1))
    return np.split(values, places)


@given(st.lists(FINITE, min_size=1, max_size=200), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_a_sum_is_exact_however_the_values_are_cut(values: list[float], seed: int) -> None:
    total = ExactSum()
    for part in cut(np.array(values), seed):
        total.add(ExactSum(part))
    assert total.count == len(values)
    assert total.divided(1) == math.fsum(values)


def asked(values: np.ndarray, seed: int, points: int | None, sent: list[int]) -> Any:
    parts = cut(values, seed)

    def ask(question: Ranks) -> Iterator[dict[str, Any]]:
        chosen = Ranks(points or question.points, question.brackets)
        sent.append(0)
        for part in parts:
            answer = sampled(chosen, "x", part)
            sent[-1] += sum(len(sample.values) for sample in answer)
            yield {"x": answer}

    return ask


@given(
    st.lists(st.one_of(FINITE, st.sampled_from([0.0, 1.0, 2.5])), min_size=1, max_size=300),
    st.integers(0, 1000),
    st.integers(2, 16),
)
@settings(max_examples=150, deadline=None)
def test_quantiles_are_those_of_numpy(values: list[float], seed: int, points: int) -> None:
    array = np.array(values)
    found = quantiles(asked(array, seed, points, []), ["x"], SHARES)["x"]
    # Below the normal numbers there is nothing halfway between two, and either of them is right.
    np.testing.assert_allclose(found, np.quantile(array, SHARES), rtol=1e-12, atol=np.finfo(float).tiny)


def test_few_values_are_sent_for_the_quantiles_of_many() -> None:
    values = np.random.default_rng(0).lognormal(0, 3, 400_000)
    sent: list[int] = []
    found = quantiles(asked(values, 1, None, sent), ["x"], [0.25, 0.5, 0.75])["x"]
    np.testing.assert_allclose(found, np.quantile(values, [0.25, 0.5, 0.75]), rtol=1e-12)
    assert len(sent) == 2
    assert sum(sent) < 15_000


def test_values_that_stand_often_do_not_keep_the_search_from_ending() -> None:
    values = np.concatenate([np.zeros(90_000), np.ones(10_000), np.random.default_rng(2).random(50)])
    for points in (2, 16, 1024):
        sent: list[int] = []
        found = quantiles(asked(values, 3, points, sent), ["x"], SHARES)["x"]
        np.testing.assert_allclose(found, np.quantile(values, SHARES), rtol=1e-12)
        assert len(sent) < 12


def test_a_column_without_values_has_no_quantiles() -> None:
    assert quantiles(asked(np.empty(0), 0, None, []), ["x"], [0.5]) == {"x": []}


@given(st.lists(st.sampled_from(["a", "b", "c", "ä", ""]), min_size=1, max_size=60), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_counts_are_those_of_all_values(values: list[str], seed: int) -> None:
    parts = cut(np.array(values, object), seed)
    total = tallied({"x": Tally.of(pd.Series(part, dtype="str"))} for part in parts)["x"]
    assert total.counts == Counter(values)
    most = max(Counter(values).values())
    assert total.most_frequent == min(value for value, count in Counter(values).items() if count == most)


def test_a_column_of_too_many_values_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "MOST_VALUES", 10)
    alone = Tally.of(pd.Series(range(11)))
    assert alone.counts is None
    together = tallied({"x": Tally.of(pd.Series(part))} for part in (range(10), range(5, 15), range(2)))["x"]
    assert together.counts is None
    assert together.most_frequent is None
