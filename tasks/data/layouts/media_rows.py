"""Files of a source as rows: cut into partitions, then read and checked on workers."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from posixpath import splitext
from typing import Any, Protocol

import pyarrow as pa

from tasks.data.config import IngestConfig
from tasks.data.formats.audio import AUDIO_SUFFIXES, check_sound
from tasks.data.formats.images import IMAGE_SUFFIXES, UNREADABLE, stored_image
from tasks.data.formats.texts import TEXT_SUFFIXES, text
from tasks.data.layouts.layout import Rows, named_classes
from tasks.data.manifest import AUDIO_COLUMN, IMAGE_COLUMN, SPLIT_OF, SPLITS, TEXT_COLUMN, Feature
from tasks.data.shards import media_table
from tasks.data.sources.source import Reader, Source
from tasks.errors import InvalidData
from tasks.refs import Modality, Problem

PIECE_BYTES = 16 * 2**20
MOST_ROWS = 512
"""A worker holds one partition: bounded in bytes for photographs, in rows for icons, and alike for few files
and for many, so that memory does not grow with a dataset."""

LABEL_NAMES_FILES = ("label_names.json", "labels.json", "id2label.json")

UNLABELLED_FOLDERS = frozenset({"unlabelled", "unlabeled"})
"""Files below a folder of this name have no label on purpose."""

SUFFIXES: dict[Modality, frozenset[str]] = {
    "image": IMAGE_SUFFIXES,
    "text": TEXT_SUFFIXES,
    "audio": AUDIO_SUFFIXES,
    "table": frozenset(),
}
OTHER_KINDS: dict[Modality, frozenset[str]] = {
    "image": frozenset(
        {
            ".arw",
            ".avif",
            ".cr2",
            ".dng",
            ".eps",
            ".heic",
            ".heif",
            ".ico",
            ".jp2",
            ".jxl",
            ".nef",
            ".psd",
            ".svg",
            ".tga",
        }
    ),
    "text": frozenset({".doc", ".docx", ".odt", ".pdf", ".rtf"}),
    "audio": frozenset({".aac", ".aif", ".aiff", ".amr", ".m4a", ".opus", ".wma"}),
    "table": frozenset(),
}
"""Meant as rows as well: they are told by name, not passed over, where they cannot be read."""

_FEATURES: dict[Modality, Feature] = {
    "image": Feature(name=IMAGE_COLUMN, type="image"),
    "text": Feature(name=TEXT_COLUMN, type="text"),
    "audio": Feature(name=AUDIO_COLUMN, type="audio"),
}


class Form(Protocol):
    """How a file becomes a row. Small: it travels to workers."""

    def row(self, reader: Reader, path: str, label: Any) -> tuple[Any, Any]:
        """The stored content and label of a file, from what the layout knows of the label.

        Raises:
            UNREADABLE: The file cannot be read.
        """
        ...


@dataclass(frozen=True)
class ImageForm:
    """Images with one class each."""

    max_side_px: int

    def row(self, reader: Reader, path: str, label: Any) -> tuple[bytes, Any]:
        return stored_image(reader.read(path), self.max_side_px).content, label


@dataclass(frozen=True)
class TextForm:
    def row(self, reader: Reader, path: str, label: Any) -> tuple[str, Any]:
        return text(reader.read(path)), label


@dataclass(frozen=True)
class AudioForm:
    def row(self, reader: Reader, path: str, label: Any) -> tuple[bytes, Any]:
        content = reader.read(path)
        check_sound(content)
        return content, label


@dataclass(frozen=True, slots=True)
class MediaRow:
    """Path in the source (it is the row's id too), split, and what its layout knows of its label."""

    path: str
    split: str
    label: Any


@dataclass(frozen=True)
class MediaPartition:
    """Files that become one shard."""

    split: str
    paths: tuple[str, ...]
    labels: tuple[Any, ...]
    reader: Reader
    form: Form
    layout: pa.Schema

    @property
    def shards(self) -> int:
        return 1

    def read(self) -> Iterator[Rows]:
        ids: list[str] = []
        contents: list[Any] = []
        labels: list[Any] = []
        faults: list[str] = []
        for path, given in zip(self.paths, self.labels, strict=True):
            try:
                content, label = self.form.row(self.reader, path, given)
            except UNREADABLE as error:
                if isinstance(error, OSError) and not _is_of_the_file(error):
                    raise  # the connection or the disk: no fault of the file
                faults.append(f"{path} ({_words(error)})")
                continue
            ids.append(path)
            contents.append(content)
            labels.append(label)
        yield Rows(media_table(self.layout, ids, contents, labels), faults)

    def halved(self) -> Sequence[MediaPartition]:
        middle = len(self.paths) // 2
        return [self._part(slice(None, middle)), self._part(slice(middle, None))] if middle else []

    def names(self) -> Sequence[str]:
        return self.paths

    def _part(self, part: slice) -> MediaPartition:
        return MediaPartition(
            self.split, self.paths[part], self.labels[part], self.reader, self.form, self.layout
        )


def _is_of_the_file(error: OSError) -> bool:
    """Whether an error tells of this file alone: decoders raise them without a number."""
    return error.errno is None or isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError))


def _words(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, OSError) and error.errno is not None:
        return (error.strerror or type(error).__name__).lower()
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def feature_of(problem: Problem) -> Feature:
    """The one input column of data whose rows are files."""
    return _FEATURES[problem.modality]


def form_of(problem: Problem, config: IngestConfig) -> Form:
    """How the files of a classification are read."""
    forms: dict[Modality, Form] = {
        "image": ImageForm(config.max_image_side_px),
        "text": TextForm(),
        "audio": AudioForm(),
    }
    return forms[problem.modality]


def media_paths(source: Source, problem: Problem) -> list[str]:
    """Paths of a source's images, texts or sounds."""
    suffixes = SUFFIXES[problem.modality] | OTHER_KINDS[problem.modality]
    return [path for path in source.paths if _suffix(path) in suffixes]


def _suffix(path: str) -> str:
    return splitext(path)[1].lower()  # several times as fast as pathlib, and paths may be many


def partitions(
    source: Source, rows: Iterable[MediaRow], form: Form, layout: pa.Schema, config: IngestConfig
) -> list[MediaPartition]:
    """Rows in order of split and path, cut into partitions."""
    ordered = sorted(rows, key=lambda row: (SPLITS.index(row.split), row.path))
    found: list[MediaPartition] = []
    start = 0
    size = 0
    for place, row in enumerate(ordered):
        bytes_ = _stored_bytes(source, row.path, config)
        full = place - start == MOST_ROWS or size + bytes_ > PIECE_BYTES
        if place > start and (full or row.split != ordered[start].split):
            found.append(_partition(source, ordered[start:place], form, layout))
            start, size = place, 0
        size += bytes_
    if ordered:
        found.append(_partition(source, ordered[start:], form, layout))
    return found


def _stored_bytes(source: Source, path: str, config: IngestConfig) -> int:
    """About how large a file is in the store: photographs are shrunk, other images may grow."""
    size = int(source.sizes[bisect_left(source.paths, path)])
    suffix = _suffix(path)
    pixels = config.max_image_side_px**2
    if suffix in (".jpg", ".jpeg"):
        return min(size, pixels)
    return min(4 * size, 3 * pixels) if suffix in IMAGE_SUFFIXES else size


def _partition(source: Source, part: Sequence[MediaRow], form: Form, layout: pa.Schema) -> MediaPartition:
    paths, labels = tuple(row.path for row in part), tuple(row.label for row in part)
    return MediaPartition(part[0].split, paths, labels, source.reader, form, layout)


def split_of(path: str) -> str:
    """The split that a path's first folder stands for; train if it stands for none."""
    first, _, rest = path.partition("/")
    return SPLIT_OF.get(first.lower(), "train") if rest else "train"


def is_unlabelled(path: str) -> bool:
    """Whether a file is in a folder of files without a label."""
    return not UNLABELLED_FOLDERS.isdisjoint(part.lower() for part in path.split("/")[:-1])


def classes_of(
    labels: Iterable[str], names: Sequence[str], where: str, config: IngestConfig
) -> tuple[tuple[str, ...], dict[str, int]]:
    """As `named_classes`; but data without any label, to be annotated, needs the names alone.

    Rows that are added may be of one class, or unlabelled: the others are there already.
    """
    distinct = set(labels)
    if not distinct and (config.add or (len(names) > 1 and config.unlabelled == "keep")):
        return tuple(names), {}
    return named_classes(distinct, names, where, least=1 if config.add else 2)


def lone_csv(source: Source) -> str | None:
    """Path of the only CSV file of a source; None where there is none or several."""
    found = [path for path in source.paths if path.lower().endswith(".csv")]
    return found[0] if len(found) == 1 else None


def label_names(source: Source, config: IngestConfig) -> tuple[str, ...]:
    """Names of the integer labels: from the settings, or from a file beside the rows' files.

    The file is a JSON object `{"0": "cat", "1": "dog"}` or a JSON list `["cat", "dog"]`.
    """
    if config.label_names:
        return config.label_names
    path = source.named(*LABEL_NAMES_FILES)
    if path is None:
        return ()
    try:
        content = json.loads(source.reader.read(path))
        if isinstance(content, dict):
            content = [content[str(index)] for index in range(len(content))]
        if isinstance(content, list) and content and all(isinstance(name, str) for name in content):
            return tuple(content)
    except (ValueError, KeyError, RecursionError):
        pass  # told below, with everything else that the file may be
    raise InvalidData(
        f"The file {path} does not hold names of labels",
        where=source.given,
        allowed='a JSON object from "0", "1", … to names, or a JSON list of names',
    )
