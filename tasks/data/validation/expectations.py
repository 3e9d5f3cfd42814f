"""Great Expectations at work: on a frame, and partition by partition with the verdict of one pass.

The only module that loads the library, which takes seconds and much memory: with Dask this happens on
workers alone.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING, Any

from tasks.data.validation.rules import Rule
from tasks.errors import InvalidSettings

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 5
LONGEST_VALUE = 80
"""Characters of one unexpected value; a row of a text table may hold a book."""

ROW_WISE = frozenset(
    f"expect_{name}"
    for name in (
        "column_pair_values_a_to_be_greater_than_b",
        "column_pair_values_to_be_equal",
        "column_pair_values_to_be_in_set",
        "column_value_lengths_to_be_between",
        "column_value_lengths_to_equal",
        "column_values_to_be_between",
        "column_values_to_be_dateutil_parseable",
        "column_values_to_be_in_set",
        "column_values_to_be_json_parseable",
        "column_values_to_be_null",
        "column_values_to_match_json_schema",
        "column_values_to_match_like_pattern",
        "column_values_to_match_like_pattern_list",
        "column_values_to_match_regex",
        "column_values_to_match_regex_list",
        "column_values_to_match_strftime_format",
        "column_values_to_not_be_in_set",
        "column_values_to_not_be_null",
        "column_values_to_not_match_like_pattern",
        "column_values_to_not_match_like_pattern_list",
        "column_values_to_not_match_regex",
        "column_values_to_not_match_regex_list",
        "multicolumn_sum_to_equal",
        "multicolumn_values_to_be_equal",
        "select_column_values_to_be_unique_within_record",
    )
)
"""Expectations that judge each row by itself. All others see the whole of their columns."""

_ABOUT_GAPS = ("expect_column_values_to_be_null", "expect_column_values_to_not_be_null")

_one_at_a_time = threading.Lock()  # the library keeps its context in a global


@dataclass(frozen=True)
class Outcome:
    """How an expectation went.

    Attributes:
        success: Whether it holds.
        elements: Rows that were looked at.
        missing: Of these, rows without a value, which are not judged.
        unexpected: Rows that are not as expected; None where rows are not what is judged.
        examples: Ids of the first of them.
        values: What the first of them hold.
        observed: What was found, where rows are not what is judged.
        positions: Positions of the first of them in the frame.
    """

    success: bool
    elements: int
    missing: int
    unexpected: int | None
    examples: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    observed: str = ""
    positions: tuple[int, ...] = ()


def run(frame: pd.DataFrame, rules: Sequence[Rule], ids: pd.Series | None = None) -> list[Outcome]:
    """Judge a frame by rules, as one suite.

    Args:
        frame: The rows, with a fresh index.
        rules: The rules.
        ids: What to call each row.

    Raises:
        InvalidSettings: An expectation of a user cannot be computed on this data.
    """
    if not rules:
        return []
    with _one_at_a_time:
        results = _results(frame, rules)
    outcomes = []
    for rule, result in zip(rules, results, strict=True):
        fault = _fault(result.exception_info)
        if fault and rule.suite:
            raise InvalidSettings(
                f"The expectation {rule.type} cannot be computed: {fault}",
                where=f"suite {rule.suite}, {rule.column}",
                mend="correct the expectation, or take it out of the suite",
            )
        if fault:
            raise RuntimeError(f"Great Expectations could not compute {rule.name}: {fault}")
        outcomes.append(_outcome(result, ids))
    return outcomes


def merged(rule: Rule, outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome over all partitions of an expectation that judges each row by itself."""
    elements = sum(one.elements for one in outcomes)
    missing = sum(one.missing for one in outcomes)
    unexpected = sum(one.unexpected or 0 for one in outcomes)
    # In the library's own arithmetic: at a limit such as 0.95 a rounding would decide.
    judged = elements if rule.type in _ABOUT_GAPS else elements - missing
    success = not judged or (float(judged) - float(unexpected)) / float(judged) >= rule.kwargs.get(
        "mostly", 1
    )
    return Outcome(
        success=success,
        elements=elements,
        missing=missing,
        unexpected=unexpected,
        examples=tuple(one for outcome in outcomes for one in outcome.examples)[:EXAMPLES],
        values=tuple(one for outcome in outcomes for one in outcome.values)[:EXAMPLES],
    )


def words(rules: Sequence[Rule]) -> list[str]:
    """What each rule expects, in the words of the library."""
    library()
    from great_expectations.render.renderer.inline_renderer import InlineRenderer

    sentences = []
    for rule in rules:
        parts = InlineRenderer(render_object=configuration(rule).configuration).get_rendered_content()
        sentences.append(" ".join(_sentence(part.value) for part in parts))
    return sentences


def library() -> Any:
    """Great Expectations, silent and without its reports home."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the library is imported
    import great_expectations

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    return great_expectations


def configuration(rule: Rule) -> Any:
    """The library's own expectation of a rule."""
    library()
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # conditions written as text
        return ExpectationConfiguration(type=rule.type, kwargs=dict(rule.kwargs)).to_domain_obj()


def value_text(value: object) -> str:
    """A value of the data for people, in one line and not too long."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {value_text(one)}" for name, one in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(value_text(one) for one in value)
    if value is None or value != value:
        return "no value"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _results(frame: pd.DataFrame, rules: Sequence[Rule]) -> Iterable[Any]:
    """Results in the order of the rules, in a context of its own that leaves no files."""
    gx = library()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    suite = gx.ExpectationSuite(name="rules")
    for place, rule in enumerate(rules):
        expectation = configuration(rule)
        expectation.meta = {"place": place}  # two rules that expect the same are both kept
        suite.expectations.append(expectation)
    batch = (
        context.data_sources.add_pandas("trainyard")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("partition")
        .get_batch({"dataframe": frame})
    )
    form = {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}
    results = batch.validate(suite, result_format=form).results
    return sorted(results, key=lambda one: int(one.expectation_config.meta["place"]))


def _outcome(result: Any, ids: pd.Series | None) -> Outcome:
    details = result.result
    # Some aggregates count unexpected values as well, but of a set of values and not of rows.
    by_row = "element_count" in details and "unexpected_count" in details
    positions = tuple(int(one) for one in details.get("partial_unexpected_index_list") or ())[:EXAMPLES]
    values = details.get("partial_unexpected_list") or ()
    observed = details.get("observed_value")
    return Outcome(
        success=bool(result.success),
        elements=int(details.get("element_count") or 0),
        missing=int(details.get("missing_count") or 0),
        unexpected=int(details["unexpected_count"] or 0) if by_row else None,
        examples=() if ids is None else tuple(str(ids.iloc[one]) for one in positions),
        values=tuple(value_text(value) for value in values)[:EXAMPLES],
        observed="" if observed is None else value_text(observed),
        positions=positions,
    )


def _fault(information: dict[str, Any]) -> str:
    """What an expectation ended with instead of a result; the library nests this by metric, or does not."""
    if "raised_exception" in information:
        return str(information["exception_message"]) if information["raised_exception"] else ""
    return next(filter(None, (_fault(one) for one in information.values() if isinstance(one, dict))), "")


def _sentence(rendered: Any) -> str:
    """A template of Great Expectations with its values put in, as plain text."""
    given = {name: one["value"] for name, one in (rendered.params or {}).items()}
    values = {name: value_text(one) if isinstance(one, float) else one for name, one in given.items()}
    return Template(rendered.template or "").safe_substitute(values)
