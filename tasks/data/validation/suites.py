"""Suites of a user's own: Great Expectations JSON, checked before anything is read.

`{"name": "…", "expectations": [{"type": "expect_…", "kwargs": {…}, "severity": "warning", "meta": {…}}]}`

Columns are those of the data (a class by its name, `id`), `row split`, and for files and texts what is
known of them: `image width`, `image height`, `image mode`, `text length`, `sound seconds` and so on.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks.data.config import IngestConfig
from tasks.data.listed import listed
from tasks.data.manifest import Manifest
from tasks.data.sources.source import opened
from tasks.data.validation.expectations import ROW_WISE, configuration, library, words
from tasks.data.validation.facts import ROW_SPLIT, own_columns
from tasks.data.validation.media_facts import (
    BYTES,
    CHANNELS,
    DECODABLE,
    FRAMES,
    HEIGHT,
    LENGTH,
    LONG_SIDE,
    MODE,
    OBJECTS,
    RATE,
    SECONDS,
    SHORT_SIDE,
    WIDTH,
)
from tasks.data.validation.rules import Rule
from tasks.errors import InvalidData, InvalidSettings

MAX_BYTES = 1024 * 1024
MAX_EXPECTATIONS = 1_000

ROW_COUNTS = ("expect_table_row_count_to_be_between", "expect_table_row_count_to_equal")
COLUMN_LISTS = (
    "expect_column_to_exist",
    "expect_table_column_count_to_be_between",
    "expect_table_column_count_to_equal",
    "expect_table_columns_to_match_ordered_list",
    "expect_table_columns_to_match_set",
)
"""Expectations on the list of columns; no row is needed for them."""
_OTHER_SOURCES = (
    "expect_query_results_to_match_comparison",
    "expect_table_row_count_to_equal_other_table",
    "unexpected_rows_expectation",
)
"""Expectations that ask a database."""
_COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list")
_LEFT_OUT = ("result_format", "catch_exceptions", "batch_id")


def suite_text(
    address: str, options: Mapping[str, Any], roots: Sequence[str] | None, closed: Sequence[str]
) -> str:
    """The text of a suite, read under the same rules as any source.

    Args:
        address: Of one JSON file.
        options: fsspec storage options of the address.
        roots: Local folders that may be read; None for any.
        closed: Folders and URLs that nothing is read from.

    Raises:
        InvalidData: There is not one file of text that is small enough.
    """
    with opened(IngestConfig(source=address, name="suite"), options, roots, closed=closed) as found:
        if len(found.paths) != 1 or found.bytes > MAX_BYTES:
            raise InvalidData(
                f"{address} is not one JSON file of at most {MAX_BYTES // 2**20} MiB",
                where=address,
                allowed="an expectation suite as Great Expectations writes it",
            )
        try:
            return found.reader.read(found.paths[0]).decode()
        except UnicodeDecodeError as error:
            raise InvalidData(f"{address} is not text in UTF-8: {error}", where=address) from None


def suite_rules(text: str, manifest: Manifest) -> list[Rule]:
    """The rules of a suite for a version.

    Args:
        text: The suite as JSON.
        manifest: The version.

    Raises:
        InvalidSettings: It is no suite, or an expectation or a column is unknown.
    """
    name, entries = _entries(text)
    columns = known_columns(manifest)
    rules = [_rule(entry, f"suite {name}, expectation {number}", name, columns)
             for number, entry in enumerate(entries, 1)]  # fmt: skip
    sentences = words(rules)
    return [
        replace(rule, good=sentence, bad=f"are not as expected: {sentence.rstrip('.')}")
        for rule, sentence in zip(rules, sentences, strict=True)
    ]


def known_columns(manifest: Manifest) -> list[str]:
    """Columns that expectations of a user can speak of."""
    own = own_columns(manifest)
    more = {
        "image": (WIDTH, HEIGHT, SHORT_SIDE, LONG_SIDE, MODE, BYTES, DECODABLE),
        "text": (LENGTH,),
        "audio": (SECONDS, FRAMES, RATE, CHANNELS, BYTES, DECODABLE),
        "table": (),
    }[manifest.problem.modality]
    objects = (OBJECTS,) if manifest.problem.has_objects else ()
    return [*own, *(name for name in (ROW_SPLIT, *more, *objects) if name not in own)]


def columns_of(rule: Rule) -> list[str]:
    """The columns that a rule needs, those of its condition as well."""
    found: list[str] = []
    for argument in _COLUMN_ARGUMENTS:
        given = rule.kwargs.get(argument, ())
        found += [given] if isinstance(given, str) else list(given)
    return list(dict.fromkeys([*found, *_condition_columns(rule.kwargs.get("row_condition"))]))


def _entries(text: str) -> tuple[str, list[Any]]:
    if len(text.encode()) > MAX_BYTES:
        raise _refused("The suite is larger than 1 MiB", "suite", mend="divide it")
    try:
        suite = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(f"The suite is not JSON: {error}", "suite") from None
    if not isinstance(suite, dict) or not isinstance(suite.get("expectations"), list):
        raise _refused("The suite has no list named expectations", "suite")
    name = " ".join(str(suite.get("name") or suite.get("expectation_suite_name") or "own").split())[:100]
    if not 0 < len(suite["expectations"]) <= MAX_EXPECTATIONS:
        raise _refused(
            f"The suite has {len(suite['expectations']):,} expectations",
            f"suite {name}",
            allowed=f"1 to {MAX_EXPECTATIONS:,}",
        )
    return name, suite["expectations"]


def _rule(entry: Any, where: str, suite: str, columns: Sequence[str]) -> Rule:
    kind = entry.get("type") or entry.get("expectation_type") if isinstance(entry, dict) else None
    if not isinstance(kind, str) or not isinstance(entry.get("kwargs", {}), dict):
        raise _refused("An expectation needs a type (text) and kwargs (an object)", where)
    _known_type(kind, where)
    kwargs = {name: value for name, value in entry.get("kwargs", {}).items() if name not in _LEFT_OUT}
    for name, value in kwargs.items():
        if isinstance(value, dict) and "$PARAMETER" in value:
            raise _refused(
                f"{name} is a parameter, and nothing gives its value", where, mend="write the value"
            )
    rule = Rule("", "", kind, kwargs, "", "", "", suite=suite)
    severity = entry.get("severity", "critical")
    if severity not in ("critical", "warning", "info"):
        raise _refused(f"The severity {severity!r} is unknown", where, allowed="critical, warning, info")
    _known_condition(kwargs, where)
    try:
        configuration(rule)
    except Exception as error:  # the library has no base of its own for what it refuses
        raise _refused(f"{kind} is not complete: {_first_lines(error)}", where) from None
    needed = columns_of(rule)
    unknown = [name for name in needed if name not in columns]
    if unknown and kind not in COLUMN_LISTS:
        raise _refused(
            f"{kind} speaks of a column that is not in the data: {listed(unknown)}",
            where,
            allowed=listed(columns),
        )
    meta = entry.get("meta") if isinstance(entry.get("meta"), dict) else {}
    notes = entry.get("notes") or (meta or {}).get("notes") or ""
    if isinstance(notes, dict):  # {"format": "markdown", "content": …}, as the library writes them
        notes = notes.get("content", "")
    by_row = kind in ROW_WISE
    return replace(
        rule,
        name=kind.removeprefix("expect_").replace("_", " "),
        column=", ".join(needed) or "whole version",
        mend=_one_line(notes) or "correct these rows in the source, or the expectation in the suite",
        scope="columns" if by_row else "whole",
        warns=severity != "critical",
    )


def _known_type(kind: str, where: str) -> None:
    library()
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    known = sorted(set(list_registered_expectation_implementations()) - set(_OTHER_SOURCES))
    if kind in _OTHER_SOURCES:
        raise _refused(f"{kind} asks a database, and a version is none", where, mend="take it out")
    if kind not in known:
        near = difflib.get_close_matches(kind, known, 3, 0.5)
        raise _refused(
            f"There is no expectation {kind!r}",
            where,
            allowed=", ".join(near) + " and others" if near else "",
        )


def _known_condition(kwargs: Mapping[str, Any], where: str) -> None:
    """Refuse conditions that pandas would run as a program."""
    condition = kwargs.get("row_condition")
    if condition is None:
        return
    parser = str(kwargs.get("condition_parser", ""))
    as_text = isinstance(condition, str) and parser.startswith("great_expectations")
    as_object = isinstance(condition, dict) and "pass_through" not in json.dumps(condition)
    names = _condition_columns(condition) if as_text or as_object else []
    if not names or any("`" in name or "\n" in name for name in names):
        raise _refused(
            "This row_condition is not accepted",
            where,
            allowed='text such as col("age") > 18 with condition_parser great_expectations, or the JSON of '
            "a condition on columns",
        )


def _condition_columns(condition: Any) -> list[str]:
    if isinstance(condition, str):
        from great_expectations.expectations.legacy_row_conditions import parse_great_expectations_condition

        try:
            return [str(parse_great_expectations_condition(condition)["column"])]
        except Exception:  # pyparsing's own errors, and the library's
            return []
    return list(_named_columns(condition))


def _named_columns(condition: Any) -> Iterator[str]:
    if isinstance(condition, dict):
        column = condition.get("column")
        if isinstance(column, dict) and isinstance(column.get("name"), str):
            yield column["name"]
        for one in condition.get("conditions") or ():
            yield from _named_columns(one)


def _refused(what: str, where: str, allowed: str = "", mend: str = "correct the suite") -> InvalidSettings:
    shape = '{"name": "…", "expectations": [{"type": "expect_…", "kwargs": {"column": "…"}}]}'
    return InvalidSettings(what, where=where, allowed=allowed or shape, mend=mend)


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _one_line(": ".join(lines[1:3] if len(lines) > 1 else lines))


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:300]
