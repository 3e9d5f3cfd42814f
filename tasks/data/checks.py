"""The expectations that every dataset version is held to, built in for each problem."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tasks.data.config import ValidateConfig
from tasks.data.facts import (
    BYTES,
    CLASS_IN_TRAIN,
    DECODABLE,
    HEIGHT,
    IN_OTHER_SPLIT,
    MODE,
    ROW_ID,
    ROW_LABEL,
    ROW_SPLIT,
    ROWS_OF_CLASS,
    WIDTH,
)
from tasks.data.manifest import SPLITS, Manifest

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

Severity = Literal["error", "mendable"]


@dataclass(frozen=True)
class Rule:
    """One expectation, with its words.

    Attributes:
        name: Short name, unique among the rules of a suite together with the column.
        column: What it looks at, as a reader would call it.
        expectation: The Great Expectations expectation.
        good: The sentence when it holds.
        bad: What follows "3 of 150 rows" when it does not.
        mend: What to do then.
        severity: Whether preprocessing can mend it.
        counted: What is counted: rows, classes or columns.
    """

    name: str
    column: str
    expectation: Expectation
    good: str
    bad: str
    mend: str
    severity: Severity = "error"
    counted: str = "rows"


def rules_of(manifest: Manifest, config: ValidateConfig, empty_columns: frozenset[str]) -> list[Rule]:
    """The rules for a version.

    Args:
        manifest: The version.
        config: The limits.
        empty_columns: Feature columns without any value: nothing can be learned that would fill them.
    """
    rules = list(_rows(manifest, config))
    if manifest.problem.is_classification:
        rules.extend(_classes(manifest, config))
    rules.extend(_tables(manifest, empty_columns) if manifest.problem.is_table else _images(config))
    return rules


def _rows(manifest: Manifest, config: ValidateConfig) -> Iterator[Rule]:
    gxe = _expectations()

    label = manifest.label
    yield Rule(
        "labelled",
        label,
        gxe.ExpectColumnValuesToNotBeNull(column=ROW_LABEL),
        "Every row has a label",
        "have no label",
        "label them, or take them out of the source",
    )
    yield Rule(
        "identified",
        "id",
        gxe.ExpectColumnValuesToBeUnique(column=ROW_ID),
        "Every row has an id of its own",
        "share an id with another row",
        "give every row an id of its own",
    )
    yield Rule(
        "split names",
        "split",
        gxe.ExpectColumnValuesToBeInSet(column=ROW_SPLIT, value_set=list(SPLITS)),
        "Every row is in a known split",
        "are in an unknown split",
        f"use {', '.join(SPLITS)}",
    )
    yield Rule(
        "training rows",
        "split",
        gxe.ExpectColumnDistinctValuesToContainSet(column=ROW_SPLIT, value_set=["train"]),
        "There are rows to train on",
        "without a row",
        "add a train folder or file to the source",
        counted="splits",
    )
    most = config.max_duplicates_across_splits_percent
    yield Rule(
        "separate splits",
        "all columns",
        gxe.ExpectColumnValuesToBeInSet(column=IN_OTHER_SPLIT, value_set=[False], mostly=1 - most / 100),
        f"At most {most:g} % of the rows stand in several splits",
        f"stand in several splits, more than {most:g} %",
        "remove the copies: a model must not be tested on what it was trained on",
    )
    if not manifest.problem.is_classification:
        yield Rule(
            "label varies",
            label,
            gxe.ExpectColumnUniqueValueCountToBeBetween(column=ROW_LABEL, min_value=2),
            "The label takes different values",
            "holds one value only",
            "choose another label column",
            counted="columns",
        )


def _classes(manifest: Manifest, config: ValidateConfig) -> Iterator[Rule]:
    gxe = _expectations()

    label, classes = manifest.label, list(manifest.classes)
    yield Rule(
        "known labels",
        label,
        gxe.ExpectColumnValuesToBeInSet(column=ROW_LABEL, value_set=classes),
        "Every label is a known class",
        "have a label that is no class",
        "correct the labels, or add the class",
    )
    yield Rule(
        "classes present",
        label,
        gxe.ExpectColumnDistinctValuesToContainSet(column=ROW_LABEL, value_set=classes),
        "Every class has rows",
        "have no row",
        "add rows of these classes, or leave their names out",
        counted="classes",
    )
    yield Rule(
        "class size",
        label,
        gxe.ExpectColumnValuesToBeBetween(column=ROWS_OF_CLASS, min_value=config.min_rows_per_class),
        f"Every class has at least {config.min_rows_per_class} rows",
        f"belong to a class of fewer than {config.min_rows_per_class} rows",
        "add rows of these classes, or leave the classes out",
    )
    yield Rule(
        "classes in training",
        label,
        gxe.ExpectColumnValuesToBeInSet(column=CLASS_IN_TRAIN, value_set=[True]),
        "Every class is among the training rows",
        "belong to a class that has no training row",
        "move rows of these classes into train",
    )


def _images(config: ValidateConfig) -> Iterator[Rule]:
    gxe = _expectations()

    yield Rule(
        "decodable",
        "image",
        gxe.ExpectColumnValuesToBeInSet(column=DECODABLE, value_set=[True]),
        "Every image can be decoded",
        "cannot be decoded",
        "replace or remove these files",
    )
    low, high = config.min_image_side_px, config.max_image_side_px
    for name, column in (("width", WIDTH), ("height", HEIGHT)):
        yield Rule(
            f"image {name}",
            "image",
            gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high),
            f"Every {name} is from {low:,} to {high:,} pixels",
            f"have a {name} outside {low:,} to {high:,} pixels",
            "ingest with a smaller max_image_side_px, or remove what is too small",
        )
    yield Rule(
        "colour mode",
        "image",
        gxe.ExpectColumnValuesToBeInSet(column=MODE, value_set=["L", "RGB"]),
        "Every image is 8-bit grey or RGB",
        "are neither 8-bit grey nor RGB",
        "ingest them again: ingest converts other modes",
    )
    yield Rule(
        "file size",
        "image",
        gxe.ExpectColumnValuesToBeBetween(column=BYTES, min_value=1),
        "No image file is empty",
        "are empty files",
        "replace or remove these files",
    )


def _tables(manifest: Manifest, empty_columns: frozenset[str]) -> Iterator[Rule]:
    gxe = _expectations()

    for feature in manifest.features:
        empty = feature.name in empty_columns
        yield Rule(
            "values present",
            feature.name,
            gxe.ExpectColumnValuesToNotBeNull(column=feature.name),
            f"{feature.name} has no gaps",
            f"have no value in {feature.name}",
            "leave the column out with drop-columns" if empty else "fill them with the preprocessing impute",
            severity="error" if empty else "mendable",
        )


def _expectations() -> Any:
    """The library's expectations, which take seconds to import and have no usable types."""
    import great_expectations.expectations

    return great_expectations.expectations
