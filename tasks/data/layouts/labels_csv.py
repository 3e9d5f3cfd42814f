"""Files in any folders, and one CSV file of file name and label."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from tasks.data.config import IngestConfig
from tasks.data.formats.csv_cells import escaped_cell, freed_cell
from tasks.data.layouts.examples import CLASSES, example_files
from tasks.data.layouts.exported import Names, names_file, rows_of, writes_splits
from tasks.data.layouts.layout import INTEGER, Contents, File, StoredVersion
from tasks.data.layouts.media_rows import (
    SUFFIXES,
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
from tasks.data.manifest import LABEL_COLUMN
from tasks.data.shards import schema
from tasks.data.sources.addresses import leads_out
from tasks.data.sources.source import Source
from tasks.errors import InvalidData
from tasks.refs import NOUNS, Problem

if TYPE_CHECKING:
    from distributed import Client

LABELS_FILE = "labels.csv"

FILE_HEADERS = ("file", "file_name", "filename", "path", "name", "image", "text", "audio", "sound")
LABEL_HEADERS = ("label", "class", "category", "target", "label_id", "class_id")
"""By these the two columns are found where there are more."""

_MAX_BYTES = 512 * 2**20


class LabelsCsv:
    """Two columns, with or without a header: file name and label (a whole number, or a name).

    Names are relative to the CSV file. A first folder train, validation or test is the split. A line without
    a label, and a file in a folder named unlabelled, is unlabelled on purpose.
    """

    name = "labels-csv"
    describes = "images, texts or sounds with a CSV of file name and label beside them"

    def reads(self, problem: Problem) -> bool:
        return problem.is_classification and not problem.is_table

    def matches(self, source: Source, config: IngestConfig) -> bool:
        if not self.reads(config.problem) or not media_paths(source, config.problem):
            return False
        return config.labels_file is not None or (
            lone_csv(source) is not None and not _are_in_label_folders(source, config)
        )

    def read(self, source: Source, config: IngestConfig, client: Client | None = None) -> Contents:
        labels_path = config.labels_file or lone_csv(source)
        assert labels_path is not None  # `matches` came first
        if source.named(labels_path) is None:
            raise InvalidData(
                f"There is no file {labels_path} of labels",
                where=source.given,
                allowed=listed([path for path in source.paths if path.endswith(".csv")]) or "no CSV is there",
            )
        paths = media_paths(source, config.problem)
        label_of = _read_labels(source, labels_path, set(paths), config)
        _refuse_left_over(source, labels_path, paths, label_of, config)
        written = {label for label in label_of.values() if label}
        names = label_names(source, config)
        classes, index_of = classes_of(written, names, labels_path, config)
        rows = [MediaRow(path, split_of(path), index_of.get(label_of.get(path, ""))) for path in paths]
        features = (feature_of(config.problem),)
        layout = schema(config.problem, features, LABEL_COLUMN, classes)
        integers = bool(names) and bool(written) and all(INTEGER.match(label) for label in written)
        return Contents(
            features=features,
            label=LABEL_COLUMN,
            classes=classes,
            partitions=partitions(source, rows, form_of(config.problem, config), layout, config),
            unlabelled=sum(row.label is None for row in rows),
            parameters={"integer_labels": integers},
        )

    def export(self, version: StoredVersion) -> Iterator[File]:
        classes = version.manifest.classes
        integers = bool(version.origin.parameters.get("integer_labels"))
        splits = writes_splits(version)
        names = Names()
        sink = io.StringIO()
        lines = csv.writer(sink, lineterminator="\n")
        lines.writerow(["file", "label"])
        for split in version.splits:
            for row in rows_of(version, split):
                path = names.path([split] if splits else [], [], row)
                label = "" if row.label is None else str(row.label) if integers else classes[row.label]
                lines.writerow([escaped_cell(path), escaped_cell(label)])
                yield path, [row.content]
        yield LABELS_FILE, [sink.getvalue().encode()]
        yield names_file(classes)

    def template(self, problem: Problem) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        lines = ["file,label"]
        for split, label, name, content in example_files(problem):
            path = f"{split}/{label}-{name}"
            files[path] = content
            lines.append(f"{path},{CLASSES.index(label)}")
        files[LABELS_FILE] = ("\n".join(lines) + "\n").encode()
        files["label_names.json"] = json.dumps(dict(enumerate(CLASSES))).encode() + b"\n"
        return files


def _are_in_label_folders(source: Source, config: IngestConfig) -> bool:
    from tasks.data.layouts.label_folders import LabelFolders

    return LabelFolders().matches(source, config)


def _refuse_left_over(
    source: Source, labels_path: str, paths: list[str], label_of: dict[str, str], config: IngestConfig
) -> None:
    """Refuse lines without a file, and files without a line."""
    noun = NOUNS[config.problem.modality]
    there = set(paths)
    absent = sorted(label_of.keys() - there)
    if absent:
        raise InvalidData(
            f"The file {labels_path} names {len(absent):,} {noun} that are not there: {listed(absent)}",
            where=f"{source.given}, which has {len(paths):,} {noun}",
            mend="add the files, or take the lines out",
        )
    bare = [path for path in paths if path not in label_of and not is_unlabelled(path)]
    if bare and config.unlabelled == "refuse":
        raise InvalidData(
            f"{len(bare):,} {noun} have no line in {labels_path}: {listed(bare)}",
            where=f"{source.given}, with {len(paths):,} {noun}; {labels_path} has {len(label_of):,} lines",
            allowed="as many lines as files, and a line without a label for a file that has none",
            mend="add the lines, remove the files, or set unlabelled to keep",
        )


def _read_labels(source: Source, labels_path: str, paths: set[str], config: IngestConfig) -> dict[str, str]:
    """Label by path in the source."""
    lines = _lines(source, labels_path)
    folder = PurePosixPath(labels_path).parent
    header = _has_header(lines, folder, paths, config)
    name_at, label_at = _columns(lines[0], labels_path, source) if header else (0, 1)
    label_of: dict[str, str] = {}
    faults = []
    names = []
    for number, line in enumerate(lines[header:], 1):
        name = line[name_at].strip() if name_at < len(line) else ""
        label = line[label_at].strip() if label_at < len(line) else ""
        names.append((number, name, freed_cell(label)))
    base = _base(folder, [name for _, name, _ in names], paths)
    for number, name, label in names:
        path = str(base / name)
        if path not in paths:
            path = str(base / freed_cell(name))
        if not name:
            faults.append(f"row {number} has no file name")
        elif leads_out(name):
            faults.append(f"row {number} names {name!r}, which leads out of the folder")
        elif path in label_of:
            faults.append(f"row {number} names {name} for the second time")
        else:
            label_of[path] = label
    if faults:
        raise InvalidData(
            f"The file {labels_path} has {len(faults):,} rows that cannot be used: {listed(faults)}",
            where=source.given,
            allowed="each file once, by its path below the folder of the CSV",
        )
    if not label_of:
        raise InvalidData(
            f"The file {labels_path} has no rows", where=source.given, mend="write one row a file"
        )
    return label_of


def _lines(source: Source, labels_path: str) -> list[list[str]]:
    try:
        content = source.reader.read(labels_path)
        if len(content) > _MAX_BYTES:
            raise ValueError(f"{len(content):,} bytes are more than {_MAX_BYTES:,}")
        text = content.decode("utf-8-sig")
        first = text.split("\n", 1)[0]
        delimiter = max(",;\t", key=first.count)
        read = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        return [line for line in read if any(cell.strip() for cell in line)]
    except (ValueError, csv.Error) as error:
        raise InvalidData(
            f"The file {labels_path} is not a CSV file in UTF-8: {error}",
            where=source.given,
            mend="save it as UTF-8",
        ) from None


def _has_header(lines: list[list[str]], folder: PurePosixPath, paths: set[str], config: IngestConfig) -> bool:
    """Whether the first line names columns: then its first cell neither is a file nor looks like one."""
    if not lines:
        return False
    cells = [cell.strip() for cell in lines[0]]
    if cells[0].lower() in FILE_HEADERS:
        return True
    looks = PurePosixPath(cells[0]).suffix.lower() in SUFFIXES[config.problem.modality]
    return not looks and str(folder / cells[0]) not in paths and "/" not in cells[0] and "\\" not in cells[0]


def _columns(header: list[str], labels_path: str, source: Source) -> tuple[int, int]:
    """Where file name and label stand: the first two, or those of known names among more."""
    names = [cell.strip().lower() for cell in header]
    if len(names) <= 2:
        return 0, 1
    at = [
        [place for place, name in enumerate(names) if name in known]
        for known in (FILE_HEADERS, LABEL_HEADERS)
    ]
    if all(len(places) == 1 for places in at):
        return at[0][0], at[1][0]
    raise InvalidData(
        f"It is not clear which of the {len(names)} columns of {labels_path} is the file and which the label",
        where=source.given,
        allowed=f"two columns; or one named {', '.join(FILE_HEADERS[:3])}, … and one named "
        f"{', '.join(LABEL_HEADERS[:3])}, …",
        mend="name the two columns so, or leave the others out",
    )


def _base(folder: PurePosixPath, names: list[str], paths: set[str]) -> PurePosixPath:
    """The folder that names are relative to: that of the CSV; or that of all files, if none is beside it."""
    if any(str(folder / name) in paths or str(folder / freed_cell(name)) in paths for name in names):
        return folder
    folders = {PurePosixPath(path).parent for path in paths}
    only = folders.pop() if len(folders) == 1 else folder
    return only if any(str(only / name) in paths for name in names) else folder
