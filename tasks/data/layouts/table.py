"""CSV and Parquet files, one row a sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from tasks.data.config import IngestConfig
from tasks.data.layouts.examples import CLASSES, example_places
from tasks.data.layouts.layout import Contents, File, StoredVersion
from tasks.data.layouts.table_export import exported
from tasks.data.layouts.table_rows import RowForm, partitions
from tasks.data.layouts.table_source import (
    classes_of,
    columns_file,
    files_of,
    format_of,
    id_column_of,
    measure_of_classes,
    most_categories,
    numbers_or_refuse,
    refuse_decimal_commas,
    refuse_repeated_ids,
    refuse_unknown,
    refuse_without_labels,
    split_of,
    table_paths,
    types_of,
)
from tasks.data.layouts.table_survey import Column, Measure, surveyed
from tasks.data.manifest import Feature
from tasks.data.shards import schema
from tasks.data.sources.source import Source
from tasks.errors import InvalidData
from tasks.refs import Problem

if TYPE_CHECKING:
    from distributed import Client


class Table:
    """Files or folders named train, validation and test are splits; the rows of others are divided later.

    A column `id`, if there is one, identifies the rows and is no feature. The files are read twice, a few
    megabytes at a time: to learn what the columns hold, and to write the shards.
    """

    name = "table"
    describes = "one or more CSV or Parquet files, one row a sample, the label in a named column"

    def reads(self, problem: Problem) -> bool:
        return problem.is_table

    def matches(self, source: Source, config: IngestConfig) -> bool:
        return self.reads(config.problem) and bool(table_paths(source))

    def read(self, source: Source, config: IngestConfig, client: Client | None = None) -> Contents:
        paths = table_paths(source)
        about = columns_file(source)
        files = files_of(source, paths, about)
        named = config.label or (about.label if about else None)
        # What nobody is to predict is left out, so that clusters are found without a look at it.
        left_out = named if not config.problem.has_label else None
        label = (named or files.columns[-1]) if config.problem.has_label else ""
        types = types_of(about, files, config)
        refuse_unknown({*filter(None, (label, left_out)), *types}, files, "label or column_types")
        id_column = id_column_of(files, [label])
        names = [name for name in files.columns if name not in (label, left_out, id_column)]
        if not names:
            raise InvalidData(f"Beside {named or label or id_column} there is no column to learn from")
        classification = config.problem.is_classification
        most = most_categories(len(names))
        measures = {name: _measure(types.get(name), most) for name in names}
        if label:
            measures[label] = measure_of_classes() if classification else Measure(numbers=True)
        if id_column:
            measures[id_column] = Measure()
        survey = surveyed(files, source, paths, measures, id_column, client)
        refuse_repeated_ids(survey, files, id_column)
        classes: tuple[str, ...] = ()
        index_of, integers = None, False
        if classification:
            classes, index_of, integers = classes_of(survey, label, source, config)
        elif label:
            refuse_without_labels(survey, label)
            numbers_or_refuse(survey.columns[label], label)
        features = tuple(_feature(name, survey.columns[name], types.get(name)) for name in names)
        form = RowForm(
            schema=schema(config.problem, features, label, classes),
            origins={name: name for name in (*names, label) if name},
            id_column=id_column,
            label=label,
            index_of=index_of,
        )
        return Contents(
            features=features,
            label=label,
            classes=classes,
            partitions=partitions(survey.spans, {path: split_of(path) for path in paths}, files, form),
            unlabelled=survey.columns[label].missing if label else 0,
            parameters={
                "label": label or left_out,
                "file_format": format_of(paths),
                "integer_labels": integers,
            },
        )

    def export(self, version: StoredVersion) -> Iterator[File]:
        manifest = version.manifest
        columns = {feature.name: feature.name for feature in manifest.features}
        yield from exported(version, columns | {name: name for name in manifest.label_columns}, text=None)

    def template(self, problem: Problem) -> dict[str, bytes]:
        lines: dict[str, list[str]] = {}
        for place, (split, label, number) in enumerate(example_places()):
            head = "width_cm,colour,kind" if problem.has_label else "width_cm,colour"
            rows = lines.setdefault(f"{split}.csv", [head])
            width = 10 * number + place / 10 + (0 if label == CLASSES[0] else 50)
            target = label if problem.is_classification else f"{2 * width:.1f}"
            row = f"{width},{('red', 'green', 'blue')[place % 3]}"
            rows.append(f"{row},{target}" if problem.has_label else row)
        return {path: ("\n".join(rows) + "\n").encode() for path, rows in lines.items()}


def _measure(given: str | None, most_categories: int) -> Measure:
    return Measure(numbers=given != "categorical", most_values=0 if given == "numeric" else most_categories)


def _feature(name: str, column: Column, given: str | None) -> Feature:
    """A column of gaps only counts as numeric."""
    kind: Literal["numeric", "categorical"] = "numeric"
    if given is None:
        refuse_decimal_commas(column, name)
    if given == "categorical" or (given is None and (column.categories or column.word is not None)):
        kind = "categorical"
    if kind == "numeric":
        numbers_or_refuse(column, name)
        return Feature(name=name, type=kind)
    return Feature(name=name, type=kind, categories=tuple(sorted(column.values or ())))
