"""The expectations that every dataset version is held to: of its rows, labels, classes and columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.data.config import StepConfig, ValidateConfig
from tasks.data.manifest import SPLITS, Manifest
from tasks.data.methods import menders
from tasks.data.validation.facts import (
    CLASS_IN_TRAIN,
    IN_OTHER_SPLIT,
    INFINITE,
    OTHER_GAPS,
    REPEATED_ID,
    ROW_LABEL,
    ROW_SPLIT,
    ROWS_OF_CLASS,
)
from tasks.data.validation.media_checks import media_rules
from tasks.data.validation.rules import Rule, between, in_set, not_null
from tasks.data.validation.standing import Totals, rows_of_classes

CLASS_ROWS = "class rows"
CLASS_BALANCE = "class rows, if any"
"""Columns of the table of classes."""


def rules_of(
    manifest: Manifest, config: ValidateConfig, totals: Totals, steps: Sequence[StepConfig] | None
) -> list[Rule]:
    """The rules for a version.

    Args:
        manifest: The version.
        config: The limits.
        totals: Counts over the version.
        steps: The preprocessing that the version goes to next, None if to none.
    """
    rules = list(_rows(manifest, config, totals, steps))
    if manifest.classes:
        rules.extend(_classes(manifest, config, totals))
    if manifest.problem.is_table:
        rules.extend(_columns(manifest, totals, steps or ()))
    else:
        rules.extend(media_rules(manifest, config, [step.method.value for step in steps or ()]))
    return rules


def complete_columns(manifest: Manifest, totals: Totals) -> list[str]:
    """Feature columns without a gap; they are checked together."""
    return [feature.name for feature in manifest.features if not totals.gaps[feature.name]]


def _rows(
    manifest: Manifest, config: ValidateConfig, totals: Totals, steps: Sequence[StepConfig] | None
) -> Iterator[Rule]:
    if manifest.problem.has_label:
        yield _labelled(manifest, totals, steps)
    yield Rule(
        "identified",
        "id",
        *in_set(REPEATED_ID, [False]),
        "Every row has an id of its own",
        "share an id with another row",
        "give every row an id of its own",
    )
    yield Rule(
        "split names",
        "split",
        *in_set(ROW_SPLIT, SPLITS),
        "Every row is in a known split",
        "are in an unknown split",
        f"use {', '.join(SPLITS)}",
    )
    yield Rule(
        "training rows",
        "split",
        "expect_column_distinct_values_to_contain_set",
        {"column": ROW_SPLIT, "value_set": ["train"]},
        "There are rows to train on",
        "There is no row to train on",
        "add a train folder or file to the source",
        scope="splits",
        counted="version",
    )
    most = config.max_duplicates_across_splits_percent
    is_text = manifest.problem.modality == "text"
    yield Rule(
        "separate splits",
        "all columns",
        *in_set(IN_OTHER_SPLIT, [False], mostly=1 - most / 100),
        f"At most {most:g} % of the rows stand in several splits",
        f"stand in several splits, more than {most:g} %",
        "remove the copies: a model must not be tested on what it was trained on"
        + (f"; the preprocessing {menders('copies')[0]} does" if is_text else ""),
        mendable=is_text,
        mended=is_text and any(step.method in menders("copies") for step in steps or ()),
    )
    if not manifest.classes and manifest.problem.has_label:
        yield Rule(
            "label varies",
            manifest.label,
            "expect_column_unique_value_count_to_be_between",
            {"column": ROW_LABEL, "min_value": 2},
            "The label takes different values",
            "The label holds one value only",
            "choose another label column",
            scope="labels",
            counted="column",
        )


def _labelled(manifest: Manifest, totals: Totals, steps: Sequence[StepConfig] | None) -> Rule:
    all_unlabelled = totals.unlabelled == totals.rows
    return Rule(
        "labelled",
        manifest.label,
        *not_null(ROW_LABEL),
        "Every row has a label",
        "have no label",
        "label them"
        if all_unlabelled
        else "label them, take them out of the source, or preprocess the version, which leaves them out",
        mendable=not all_unlabelled,
        mended=not all_unlabelled and steps is not None,
    )


def _classes(manifest: Manifest, config: ValidateConfig, totals: Totals) -> Iterator[Rule]:
    label = manifest.label
    # Lists of categories often name more than a set of images shows, and no row falls away by that.
    one_each = manifest.problem.is_classification
    counts = rows_of_classes(totals, manifest)
    if one_each:
        yield Rule(
            "known labels",
            label,
            *in_set(ROW_LABEL, manifest.classes),
            "Every label is a known class",
            "have a label that is no class",
            "correct the labels, or add the class",
        )
    yield Rule(
        "classes present",
        label,
        *between(CLASS_ROWS, low=1),
        "Every class has rows" if one_each else "Every class is in the data",
        "have no row" if one_each else "are nowhere in the data",
        "add rows of these classes, or leave their names out",
        scope="classes",
        warns=not one_each and any(counts),
        counted="classes",
    )
    yield Rule(
        "class size",
        label,
        *between(ROWS_OF_CLASS, low=config.min_rows_per_class),
        f"Every class occurs at least {config.min_rows_per_class} times",
        f"belong to a class of fewer than {config.min_rows_per_class} rows"
        if one_each
        else f"hold a class that occurs fewer than {config.min_rows_per_class} times",
        "add rows of these classes, or leave the classes out",
        warns=not one_each,
    )
    yield Rule(
        "classes in training",
        label,
        *in_set(CLASS_IN_TRAIN, [True]),
        "Every class is among the training rows",
        "belong to a class that has no training row" if one_each else "hold a class that no training row has",
        "move rows of these classes into train",
        warns=not one_each,
    )
    ratio, most = config.max_class_imbalance, max([*counts, 0])
    yield Rule(
        "class balance",
        label,
        *between(CLASS_BALANCE, low=most / ratio),
        f"No class is more than {ratio:g} times as large as another",
        f"have less than 1/{ratio:g} of the {most:,} of the largest class",
        "add rows of the small classes, or judge models by the mean over classes (macro F1)",
        scope="classes",
        warns=True,
        counted="classes",
    )


def _columns(manifest: Manifest, totals: Totals, steps: Sequence[StepConfig]) -> Iterator[Rule]:
    complete = complete_columns(manifest, totals)
    fill, drop = menders("gaps"), menders("columns")
    if complete:
        every = len(complete) == len(manifest.features)
        yield Rule(
            "values present",
            complete[0] if len(complete) == 1 else f"{len(complete):,} columns",
            *in_set(OTHER_GAPS, [0]),
            "No column has gaps" if every else f"{len(complete):,} other columns have no gaps",
            "have gaps",
            f"fill them with the preprocessing {fill[0]}",
        )
    fills = any(step.method in fill for step in steps)
    dropped = {name for step in steps if step.method in drop for name in step.parameters.get("columns", ())}
    for feature in manifest.features:
        if not totals.gaps[feature.name]:
            continue
        empty = totals.gaps[feature.name] == totals.rows
        yield Rule(
            "values present",
            feature.name,
            *not_null(feature.name),
            f"{feature.name} has no gaps",
            f"have no value in {feature.name}",
            f"leave the column out with the preprocessing {drop[0]}"
            if empty
            else f"fill them with the preprocessing {fill[0]}, or leave the column out with {drop[0]}",
            scope="columns",
            mendable=not empty or feature.name in dropped,
            mended=feature.name in dropped or (fills and not empty),
        )
    yield Rule(
        "finite values",
        "numeric columns",
        *in_set(INFINITE, [0]),
        "Every number is finite",
        "hold an infinite number",
        "correct these numbers in the source, or empty the cells and fill them with the preprocessing "
        f"{fill[0]}",
    )
