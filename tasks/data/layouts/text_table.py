"""CSV and Parquet files with a column of texts and a column of labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tasks.data.config import IngestConfig
from tasks.data.layouts.examples import example_files
from tasks.data.layouts.layout import Contents, File, StoredVersion
from tasks.data.layouts.media_rows import media_paths
from tasks.data.layouts.table_export import exported
from tasks.data.layouts.table_rows import RowForm, partitions
from tasks.data.layouts.table_source import (
    classes_of,
    columns_file,
    files_of,
    format_of,
    id_column_of,
    measure_of_classes,
    refuse_repeated_ids,
    refuse_unknown,
    split_of,
    table_paths,
)
from tasks.data.layouts.table_survey import Measure, surveyed
from tasks.data.manifest import LABEL_COLUMN, TEXT_COLUMN, Feature
from tasks.data.shards import schema
from tasks.data.sources.source import Source
from tasks.errors import InvalidData
from tasks.refs import Problem

if TYPE_CHECKING:
    from distributed import Client


class TextTable:
    """The texts are in the column `text`, or the one that is named; other columns are passed over.

    The label is in the column that is named, or in `label`, or else in the last one. Splits and ids are as
    in `Table`.
    """

    name = "text-table"
    describes = "one or more CSV or Parquet files with a column of texts and a column of labels"

    def reads(self, problem: Problem) -> bool:
        return problem is Problem.TEXT_CLASSIFICATION

    def matches(self, source: Source, config: IngestConfig) -> bool:
        return (
            self.reads(config.problem)
            and bool(table_paths(source))
            and not media_paths(source, config.problem)
        )

    def read(self, source: Source, config: IngestConfig, client: Client | None = None) -> Contents:
        paths = table_paths(source)
        about = columns_file(source)
        files = files_of(source, paths, about)
        last = LABEL_COLUMN if LABEL_COLUMN in files.columns else files.columns[-1]
        label = config.label or (about.label if about and about.label else last)
        text = config.text_column or (about.text if about else None) or TEXT_COLUMN
        refuse_unknown({label, text}, files, "text_column or label")
        if text == label:
            raise InvalidData(
                f"The column {text} is to be both the text and the label",
                allowed=", ".join(files.columns),
                mend="name the columns in text_column and label",
            )
        id_column = id_column_of(files, [label, text])
        measures = {text: Measure(), label: measure_of_classes()}
        if id_column:
            measures[id_column] = Measure()
        survey = surveyed(files, source, paths, measures, id_column, client)
        refuse_repeated_ids(survey, files, id_column)
        classes, index_of, integers = classes_of(survey, label, source, config)
        features = (Feature(name=TEXT_COLUMN, type="text"),)
        form = RowForm(
            schema=schema(config.problem, features, LABEL_COLUMN, classes),
            origins={TEXT_COLUMN: text, LABEL_COLUMN: label},
            id_column=id_column,
            label=LABEL_COLUMN,
            index_of=index_of,
        )
        return Contents(
            features=features,
            label=LABEL_COLUMN,
            classes=classes,
            partitions=partitions(survey.spans, {path: split_of(path) for path in paths}, files, form),
            unlabelled=survey.columns[label].missing,
            parameters={
                "label": label,
                "text_column": text,
                "file_format": format_of(paths),
                "integer_labels": integers,
            },
        )

    def export(self, version: StoredVersion) -> Iterator[File]:
        about = version.origin.parameters
        text = about.get("text_column") or TEXT_COLUMN
        columns = {TEXT_COLUMN: text, LABEL_COLUMN: about.get("label") or LABEL_COLUMN}
        yield from exported(version, columns, text=text)

    def template(self, problem: Problem) -> dict[str, bytes]:
        files: dict[str, io.StringIO] = {}
        for split, label, _, content in example_files(problem):
            path = f"{split}.csv"
            if path not in files:
                files[path] = io.StringIO("text,label\n")
                files[path].seek(0, io.SEEK_END)
            csv.writer(files[path], lineterminator="\n").writerow([content.decode().strip(), label])
        return {path: sink.getvalue().encode() for path, sink in files.items()}
