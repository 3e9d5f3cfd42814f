"""One folder of files a class, with or without folders for splits above."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tasks.data.config import IngestConfig
from tasks.data.layouts.examples import example_files
from tasks.data.layouts.exported import Names, is_folder_name, names_file, rows_of, writes_splits
from tasks.data.layouts.labels_csv import LabelsCsv
from tasks.data.layouts.layout import Contents, File, StoredVersion
from tasks.data.layouts.media_rows import (
    UNLABELLED_FOLDERS,
    MediaRow,
    classes_of,
    feature_of,
    form_of,
    is_unlabelled,
    label_names,
    lone_csv,
    media_paths,
    partitions,
    split_of,
)
from tasks.data.listed import listed
from tasks.data.manifest import LABEL_COLUMN, SPLIT_OF
from tasks.data.shards import schema
from tasks.data.sources.source import Source
from tasks.errors import InvalidData
from tasks.refs import NOUNS, Problem

if TYPE_CHECKING:
    from distributed import Client


class LabelFolders:
    """`train/<label>/*.png`, `validation/<label>/…`, `test/<label>/…`; or `<label>/*.png`.

    Files in a folder `unlabelled` have no label.
    """

    name = "label-folders"
    describes = "a folder of images, texts or sounds a label, such as train/cat/1.png or cat/1.png"

    def reads(self, problem: Problem) -> bool:
        return problem.is_classification and not problem.is_table

    def matches(self, source: Source, config: IngestConfig) -> bool:
        if not self.reads(config.problem) or config.labels_file:
            return False
        paths = [path.split("/") for path in media_paths(source, config.problem)]
        depth = 1 if _has_splits(paths) else 0
        labels = {parts[depth] for parts in paths if len(parts) > depth + 1}
        # One folder beside a CSV file holds all the files, and the CSV holds the labels.
        named = {label for label in labels if label.lower() not in UNLABELLED_FOLDERS}
        return len(named) > 1 or (bool(labels) and lone_csv(source) is None)

    def read(self, source: Source, config: IngestConfig, client: Client | None = None) -> Contents:
        paths = media_paths(source, config.problem)
        parted = [path.split("/") for path in paths]
        depth = 1 if _has_splits(parted) else 0
        on_purpose = [is_unlabelled(path) for path in paths]
        strays = [
            path
            for path, parts, left in zip(paths, parted, on_purpose, strict=True)
            if len(parts) < depth + 2 and not left
        ]
        if strays and config.unlabelled == "refuse":
            noun = NOUNS[config.problem.modality]
            raise InvalidData(
                f"{len(strays):,} {noun} stand in no label folder: {listed(strays)}",
                where=source.given,
                allowed=self.describes,
                mend="move them into the folder of their label, into a folder named unlabelled, or remove "
                "them; or set unlabelled to keep",
            )
        if not depth:
            _refuse_half_split(parted, source)
        labels = [
            parts[depth] if len(parts) > depth + 1 and not left else None
            for parts, left in zip(parted, on_purpose, strict=True)
        ]
        found = {label for label in labels if label is not None}
        classes, index_of = classes_of(found, label_names(source, config), source.given, config)
        rows = [
            MediaRow(path, split_of(path) if depth else "train", None if label is None else index_of[label])
            for path, label in zip(paths, labels, strict=True)
        ]
        features = (feature_of(config.problem),)
        layout = schema(config.problem, features, LABEL_COLUMN, classes)
        return Contents(
            features=features,
            label=LABEL_COLUMN,
            classes=classes,
            partitions=partitions(source, rows, form_of(config.problem, config), layout, config),
            unlabelled=sum(row.label is None for row in rows),
        )

    def export(self, version: StoredVersion) -> Iterator[File]:
        classes = version.manifest.classes
        lower = {name.lower() for name in classes}
        if len(lower) < len(classes) or not all(is_folder_name(name) for name in classes):
            yield from LabelsCsv().export(version)  # which can write any label
            return
        splits = writes_splits(version) or not lower.isdisjoint(SPLIT_OF)
        names = Names(folders=[*classes, *UNLABELLED_FOLDERS])
        for split in version.splits:
            for row in rows_of(version, split):
                folder = "unlabelled" if row.label is None else classes[row.label]
                yield names.path([split] if splits else [], [folder], row), [row.content]
        yield names_file(classes)

    def template(self, problem: Problem) -> dict[str, bytes]:
        return {f"{split}/{label}/{name}": content for split, label, name, content in example_files(problem)}


def _has_splits(parted: list[list[str]]) -> bool:
    """Whether the top folders are splits: then all of them are (a class may be called "train", too)."""
    tops = {parts[0].lower() for parts in parted if len(parts) > 1} - UNLABELLED_FOLDERS
    return bool(tops) and tops <= SPLIT_OF.keys()


def _refuse_half_split(parted: list[list[str]], source: Source) -> None:
    """Refuse `train/cat/1.png` beside `dogs/1.png`: is `train` a split or a label?"""
    splits = sorted({parts[0] for parts in parted if len(parts) > 2 and parts[0].lower() in SPLIT_OF})
    if splits:
        others = sorted({parts[0] for parts in parted} - set(splits))
        raise InvalidData(
            f"Folders for splits ({listed(splits)}) stand beside others: {listed(others)}",
            where=source.given,
            allowed="train, validation and test only, or one folder a label only",
            mend="move the other folders away",
        )
