"""Rows of a version as files again: their names, and their content."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.formats.images import SUFFIXES_OF
from tasks.data.layouts.layout import File, StoredVersion
from tasks.data.layouts.media_rows import UNLABELLED_FOLDERS
from tasks.data.manifest import ID_COLUMN, SPLIT_OF

_AUDIO_SUFFIXES_OF = {
    b"RIFF": (".wav",),
    b"RF64": (".wav",),
    b"fLaC": (".flac",),
    b"OggS": (".ogg",),
    b"ID3": (".mp3",),
    b"\xff": (".mp3",),
}
_IMAGE_SUFFIXES_OF = {
    b"\x89PNG": SUFFIXES_OF["PNG"],
    b"\xff\xd8": SUFFIXES_OF["JPEG"],
    b"RIFF": SUFFIXES_OF["WEBP"],
}
_RESERVED = '<>:"|?*\\'
_DEVICES = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
"""Windows has no such letters in names, and no such names."""


@dataclass(frozen=True)
class ExportedRow:
    """One row of a version: id, the bytes of its file, the endings that such a file has, label."""

    id: str
    content: bytes
    suffixes: tuple[str, ...]
    label: Any


def rows_of(version: StoredVersion, split: str) -> Iterator[ExportedRow]:
    """The rows of a split, one after the other."""
    feature, label = version.manifest.features[0], version.manifest.label
    for table in version.tables(split):
        for batch in table.to_batches(max_chunksize=64):
            for key, content, value in zip(
                batch.column(ID_COLUMN).to_pylist(),
                contents(batch.column(feature.name)),
                batch.column(label).to_pylist(),
                strict=True,
            ):
                yield ExportedRow(key, content, _suffixes(content, feature.type), value)


def contents(column: pa.Array) -> list[bytes]:
    """The files of a column of files, or its texts in UTF-8."""
    if pa.types.is_string(column.type):
        return [(value or "").encode() for value in column.to_pylist()]
    return list(pc.struct_field(column, "bytes").to_pylist())


def _suffixes(content: bytes, kind: str) -> tuple[str, ...]:
    if kind == "text":
        return (".txt",)
    known = _AUDIO_SUFFIXES_OF if kind == "audio" else _IMAGE_SUFFIXES_OF
    return next((suffixes for magic, suffixes in known.items() if content.startswith(magic)), ())


def writes_splits(version: StoredVersion) -> bool:
    """Whether files go into folders of their splits: not where all are in train and came without."""
    if set(version.manifest.splits) != {"train"}:
        return True
    first = next((table[ID_COLUMN][0].as_py() for table in version.tables("train") if table.num_rows), "")
    top, _, rest = str(first).partition("/")
    return bool(rest) and top.lower() in SPLIT_OF


class Names:
    """Gives every row a path of its own, that of its file when it came in where that is possible.

    Paths that differ only in case or in the way in which an accent is written count as one: on many disks
    they are.
    """

    def __init__(self, folders: Collection[str] = ()) -> None:
        self._folders = frozenset(folders)
        self._taken: set[int] = set()

    def path(self, above: Sequence[str], folder: Sequence[str], row: ExportedRow) -> str:
        """A new path.

        Args:
            above: The folder of the split, if there is one.
            folder: Folders below it, such as that of the label.
            row: The row; the folders that its id begins with are not repeated if they say the split, or
                are one of the folders that this layout makes.
        """
        parts = [_safe(part) for part in row.id.split("/") if part not in ("", ".", "..")] or ["row"]
        if len(parts) > 1 and parts[0].lower() in SPLIT_OF and above:
            parts = parts[1:]
        if folder and len(parts) > 1 and parts[0] in self._folders:
            parts = parts[1:]
        name = "/".join([*above, *folder, *parts])
        if row.suffixes and PurePosixPath(name).suffix.lower() not in row.suffixes:
            name += row.suffixes[0]
        return self._new(name)

    def _new(self, name: str) -> str:
        suffix = PurePosixPath(name).suffix
        stem = name.removesuffix(suffix)
        count = 1
        while (key := hash(unicodedata.normalize("NFC", name).casefold())) in self._taken:
            count += 1
            name = f"{stem}-{count}{suffix}"
        self._taken.add(key)
        return name


def _safe(part: str) -> str:
    return "".join("_" if letter in _RESERVED or ord(letter) < 32 else letter for letter in part)


def is_folder_name(label: str) -> bool:
    """Whether a label can be the name of a folder, here and on other systems, and stays a label there."""
    return (
        label == _safe(label).strip()
        and "/" not in label
        and 0 < len(label.encode()) <= 200
        and label[0] not in "."
        and label[-1] != "."
        and not _DEVICES.match(label)
        and label.lower() not in UNLABELLED_FOLDERS
    )


def names_file(classes: Sequence[str]) -> File:
    """The names of the integer labels."""
    content = json.dumps(
        {str(index): name for index, name in enumerate(classes)}, ensure_ascii=False, indent=1
    )
    return "label_names.json", [content.encode() + b"\n"]


def json_list(items: Iterable[Any]) -> Iterator[bytes]:
    """A JSON list, item by item."""
    between = b"[\n"
    for item in items:
        yield between + json.dumps(item, ensure_ascii=False).encode()
        between = b",\n"
    yield b"[]" if between == b"[\n" else b"\n]"
