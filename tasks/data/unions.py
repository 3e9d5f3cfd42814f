"""What a version and a source have together: one set of columns and classes for the rows of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.config import IngestConfig
from tasks.data.formats.seg_maps import MOST_CLASSES
from tasks.data.layouts.layout import INTEGER, Contents, ordered_classes
from tasks.data.layouts.table_source import columns_file, files_of, most_categories, table_paths
from tasks.data.listed import listed
from tasks.data.manifest import ID_COLUMN, Feature, Manifest
from tasks.data.origins import origin_of
from tasks.data.shards import schema
from tasks.data.sources.source import Source
from tasks.data.storage.store import LATEST_RAW, DatasetStore
from tasks.errors import InvalidData, InvalidSettings, NotFound
from tasks.refs import Problem

_OF_THE_FIRST = ("label", "text_column", "file_format", "integer_labels", "label_names")
"""Parameters by which an export writes all rows as the first ones came."""

_CLASS_NUMBERS = ("category_ids", "class_ids")

MOST_NAMED = 20
"""A refusal names so many columns."""


def version_to_add_to(store: DatasetStore, config: IngestConfig) -> Manifest:
    """The newest raw version of the dataset, if rows for this problem can be added to it.

    Raises:
        NotFound: There is none, or it is somebody else's private one.
        InvalidSettings: It is for another problem, or its images were shrunk otherwise.
        Damaged: Its shards are not all there.
    """
    try:
        base = store.get(config.name, LATEST_RAW)
    except NotFound:
        raise NotFound(
            f"There is no dataset named {config.name} that rows could be added to",
            where="add",
            allowed=listed(store.names(), 20) or "nothing is there yet",
            mend="correct the name, or set add to false to make it",
        ) from None
    what = f"{base.name}@{base.version}"
    if base.problem is not config.problem:
        raise InvalidSettings(
            f"The dataset {what} is for {base.problem.value}, the rows to add are for {config.problem.value}",
            where="problem",
            allowed=base.problem.value,
            mend="choose that problem, or another name",
        )
    side = origin_of(store, base).parameters.get("max_image_side_px", config.max_image_side_px)
    if base.problem.modality == "image" and side != config.max_image_side_px:
        raise InvalidSettings(
            f"Images of {what} are at most {side} px, those to add {config.max_image_side_px} px",
            where="max_image_side_px",
            allowed=str(side),
        )
    store.verify(store.ref(base))
    return base


def read_alike(config: IngestConfig, store: DatasetStore, base: Manifest, source: Source) -> IngestConfig:
    """The settings, where they leave it open as the version was read: columns of tables and their types."""
    paths = table_paths(source)
    if not paths or not (base.problem.is_table or base.problem is Problem.TEXT_CLASSIFICATION):
        return config
    about = columns_file(source)
    columns = set(files_of(source, paths, about).columns)
    types: dict[str, Any] = {
        feature.name: feature.type
        for feature in base.features
        if feature.name in columns and feature.type in ("numeric", "categorical")
    }
    changes: dict[str, Any] = {"column_types": types | config.column_types}
    known = origin_of(store, base).parameters
    for field in ("label", "text_column"):
        name = known.get(field)
        if getattr(config, field) is None and name in columns and about is None:
            changes[field] = name
    return config.model_copy(update=changes)


@dataclass(frozen=True)
class Form:
    """How rows become those of the new version. Small: it travels to workers.

    Attributes:
        layout: Columns of the new version.
        label: Name of the label.
        problem: The problem.
        places: New integer label by old one.
        folder: What the rows' ids begin with.
    """

    layout: pa.Schema
    label: str
    problem: Problem
    places: tuple[int, ...]
    folder: str = ""

    def rows(self, table: pa.Table) -> pa.Table:
        columns = []
        for field in self.layout:
            column = table[field.name]
            if field.name == self.label:
                column = self._labels(column.combine_chunks())
            elif self.folder and field.name == ID_COLUMN:
                column = self._below(column.combine_chunks())
            elif self.folder and pa.types.is_struct(field.type):
                column = column.combine_chunks()
                parts = [pc.struct_field(column, "bytes"), self._below(pc.struct_field(column, "path"))]
                column = pa.StructArray.from_arrays(parts, fields=list(field.type), mask=pc.is_null(column))
            columns.append(column.cast(field.type))
        return pa.table(columns, schema=self.layout)

    def _below(self, names: pa.Array) -> pa.Array:
        return pc.binary_join_element_wise(pa.scalar(self.folder), names, pa.scalar("/"))

    def _labels(self, labels: pa.Array) -> pa.Array:
        if self.places == tuple(range(len(self.places))):
            return labels
        if self.problem.is_classification:
            return pa.array(self.places, pa.int64()).take(labels)
        if self.problem.has_objects:
            rows = labels.to_pylist()
            for one in (one for row in rows if row for one in row):
                one["category"] = self.places[one["category"]]
            return pa.array(rows, labels.type)
        from PIL import Image

        from tasks.data.formats.images import open_image, png

        places = np.asarray(self.places, np.uint8)
        rows = labels.to_pylist()
        for row in rows:
            if row is not None:
                row["bytes"] = png(Image.fromarray(places[np.asarray(open_image(row["bytes"]))]))
        return pa.array(rows, labels.type)


@dataclass(frozen=True)
class Union:
    """A version and what comes to it.

    Attributes:
        base: The version.
        features: Columns of both together.
        classes: Classes of both together.
        old: What becomes of the version's rows; None if their shards stay as they are.
        new: What becomes of the rows that are added.
        parameters: What the manifest keeps, to write all rows out as the first ones came.
    """

    base: Manifest
    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    old: Form | None
    new: Form
    parameters: Mapping[str, Any]


def union_of(base: Manifest, store: DatasetStore, contents: Contents, folder: str) -> Union:
    """Bring columns and classes together.

    Raises:
        InvalidData: The columns differ: the message names them.
    """
    _require_same_columns(base, contents)
    known = origin_of(store, base).parameters
    parameters = {name: known[name] for name in _OF_THE_FIRST if name in known}
    features = tuple(_joined(base.features, contents.features))
    given = dict(zip(contents.classes, _numbers(contents.parameters, contents.classes), strict=True))
    if base.problem.is_classification:
        classes = _joined_classes(base.classes, contents.classes, known)
    else:
        classes = base.classes + tuple(name for name in contents.classes if name not in base.classes)
    for field in _CLASS_NUMBERS:
        if field in contents.parameters:
            numbers = _numbers({**known, field: known.get(field, ())}, base.classes)
            for name in classes[len(numbers) :]:
                # Ids rise with the classes, as ingest would have them; those that are there stay.
                numbers.append(max(given[name], max(numbers, default=-1) + 1))
            parameters[field] = numbers
    if base.problem is Problem.SEMANTIC_SEGMENTATION and len(classes) > MOST_CLASSES:
        raise InvalidData(f"There would be {len(classes)} classes", allowed=f"at most {MOST_CLASSES}")
    layout = schema(base.problem, features, base.label, classes)

    def form(names: Sequence[str], folder: str = "") -> Form:
        places = tuple(_place(name, classes) for name in names)
        return Form(layout, base.label, base.problem, places, folder)

    old = None if classes == base.classes else form(base.classes)
    return Union(base, features, classes, old, form(contents.classes, folder), parameters)


def _require_same_columns(base: Manifest, contents: Contents) -> None:
    there = {feature.name: feature.type for feature in base.features}
    coming = {feature.name: feature.type for feature in contents.features}
    faults = []
    if base.label != contents.label:
        faults.append(f"its label is {base.label}, theirs is {contents.label}")
    if absent := sorted(there.keys() - coming.keys()):
        faults.append(f"they lack {listed(absent, MOST_NAMED)}")
    if more := sorted(coming.keys() - there.keys()):
        faults.append(f"they have {listed(more, MOST_NAMED)} besides")
    faults += [
        f"{name} is {there[name]} there, {coming[name]} here"
        for name in there
        if name in coming and there[name] != coming[name]
    ]
    if faults:
        raise InvalidData(
            f"The rows have other columns than {base.name}@{base.version}: {'; '.join(faults)}",
            allowed=f"the label {base.label} and the columns {listed(list(there), 50)}",
            mend="correct the files, label or column_types; or ingest them under another name",
        )


def _joined(old: Sequence[Feature], new: Sequence[Feature]) -> list[Feature]:
    """The columns with the categories of both; none are listed where they are too many for either."""
    coming = {feature.name: feature for feature in new}
    joined = []
    for feature in old:
        both = {*feature.categories, *coming[feature.name].categories}
        whole = feature.categories and coming[feature.name].categories
        fits = whole and len(both) <= most_categories(len(old))
        joined.append(feature.model_copy(update={"categories": tuple(sorted(both)) if fits else ()}))
    return joined


def _joined_classes(old: tuple[str, ...], new: tuple[str, ...], known: Mapping[str, Any]) -> tuple[str, ...]:
    """Classes in ingest's order; behind the old ones, where these have numbers that somebody gave."""
    if not _are_numbered(old, known):
        return ordered_classes([*old, *new])
    numbers = {str(place) for place in range(len(old))}
    return old + tuple(name for name in new if name not in old and name not in numbers)


def _are_numbered(classes: tuple[str, ...], known: Mapping[str, Any]) -> bool:
    given = bool(known.get("integer_labels") or known.get("label_names"))
    return given or classes != ordered_classes(classes)


def _place(name: str, classes: Sequence[str]) -> int:
    if name in classes:
        return classes.index(name)
    assert INTEGER.match(name)
    return int(name)  # the number of a class whose name is known from before


def _numbers(known: Mapping[str, Any], classes: Sequence[str]) -> list[int]:
    """The ids that classes came with; numbers of our own for those that were added since."""
    field = next((field for field in _CLASS_NUMBERS if field in known), "")
    numbers = list(known.get(field, ()))[: len(classes)]
    while len(numbers) < len(classes):
        numbers.append(max(numbers, default=-1 if field == "class_ids" else 0) + 1)
    return numbers
