"""Items are split evenly, all of them, and in the same way for the same seed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.annotate.assign import assign
from tasks.annotate.config import AssignConfig
from tasks.errors import InvalidSettings


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 5))
def test_every_item_goes_to_one_annotator_and_shares_are_even(items: int, people: int, seed: int) -> None:
    ids = [f"item {index}" for index in range(max(items, people))]
    names = [f"annotator {index}" for index in range(people)]
    shares = assign(ids, names, seed)

    assert sorted(itertools.chain(*shares.values())) == sorted(ids)
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1
    assert shares == assign(ids, names, seed)


def test_neighbours_are_mixed() -> None:
    ids = [str(index) for index in range(100)]
    assert assign(ids, ["a", "b"], 0)["a"] != ids[::2]
    assert assign(ids, ["a", "b"], 0) != assign(ids, ["a", "b"], 1)


def test_nothing_to_label_and_too_many_annotators_are_refused() -> None:
    with pytest.raises(InvalidSettings, match="nothing to label"):
        assign([], ["a"], 0)
    with pytest.raises(InvalidSettings, match="1 to 1 annotators"):
        assign(["x"], ["a", "b"], 0)


@pytest.mark.parametrize(
    "settings_", [{"annotators": []}, {"annotators": ["a", "a"]}, {"annotators": [" "]},
                  {"annotators": ["a"], "classes": ["x", "x"]}],
)  # fmt: skip
def test_bad_names_are_refused(settings_: dict[str, list[str]]) -> None:
    with pytest.raises(ValidationError):
        AssignConfig.model_validate(settings_)
