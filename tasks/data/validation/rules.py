"""Rules: an expectation of Great Expectations with the words for it, before the library is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Scope = Literal["rows", "columns", "classes", "splits", "labels", "sounds", "whole"]
"""Which frame a rule judges: facts of the rows, or the data's own columns; or a table of all classes, of all
splits, of the smallest and largest label, of the kinds of sounds. `whole`: columns, not row by row."""


@dataclass(frozen=True)
class Rule:
    """One expectation, with its words.

    Attributes:
        name: Short name.
        column: What it looks at, as a reader would call it.
        type: Name of the Great Expectations expectation.
        kwargs: Its arguments.
        good: The sentence when it holds; empty takes the library's.
        bad: What follows "3 of 150 rows" when it does not; a whole sentence where no row is counted.
        mend: What to do then.
        scope: Which frame it judges.
        warns: It is worth a look where it does not hold, and stops nobody.
        mendable: A preprocessing can mend it.
        mended: The preprocessing to come does.
        counted: What is counted: rows, classes, columns or splits.
        suite: The suite of a user that it is from; empty for what is built in.
    """

    name: str
    column: str
    type: str
    kwargs: Mapping[str, Any]
    good: str
    bad: str
    mend: str
    scope: Scope = "rows"
    warns: bool = False
    mendable: bool = False
    mended: bool = False
    counted: str = "rows"
    suite: str = ""


Expected = tuple[str, dict[str, Any]]
"""An expectation's name and its arguments."""


def in_set(column: str, values: Sequence[object], **more: Any) -> Expected:
    """Every value is one of these."""
    return "expect_column_values_to_be_in_set", {"column": column, "value_set": list(values), **more}


def not_null(column: str) -> Expected:
    """Every row has a value."""
    return "expect_column_values_to_not_be_null", {"column": column}


def between(column: str, low: float | None = None, high: float | None = None) -> Expected:
    """Every value is in these limits."""
    limits = {"min_value": low, "max_value": high}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    return "expect_column_values_to_be_between", {"column": column, **given}
