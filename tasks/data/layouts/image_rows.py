"""Images of a source as shards: cut to size, then read, checked and shrunk on workers."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from tasks.data.config import IngestConfig
from tasks.data.images import UNREADABLE, open_image, plain, plain_png_header, png, shrunk
from tasks.data.manifest import SPLITS
from tasks.data.shards import image_table
from tasks.data.sources import Reader, Source
from tasks.errors import InvalidData

SHARD_BYTES = 64 * 2**20
SHARD_ROWS = 8_192
"""A worker holds one shard: bounded in bytes for photographs, in rows for icons."""

LABEL_NAMES_FILES = ("label_names.json", "labels.json", "id2label.json")


@dataclass(frozen=True)
class ImageRow:
    """Path in the source (it is the row's id too), split, integer label (None: not labelled)."""

    path: str
    split: str
    label: int | None


@dataclass(frozen=True)
class ImageShard:
    """A shard of images."""

    split: str
    rows: tuple[ImageRow, ...]
    reader: Reader
    classes: tuple[str, ...]
    max_side_px: int

    def table(self) -> tuple[pa.Table, list[str]]:
        ids: list[str] = []
        contents: list[bytes] = []
        labels: list[int | None] = []
        faults: list[str] = []
        for row in self.rows:
            try:
                contents.append(stored_form(self.reader.read(row.path), self.max_side_px))
            except UNREADABLE as error:
                faults.append(
                    f"{row.path} ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
                )
                continue
            ids.append(row.path)
            labels.append(row.label)
        return image_table(ids, contents, labels, self.classes), faults


def stored_form(content: bytes, max_side_px: int) -> bytes:
    """An image file as the store keeps it: as it is, where no pixel needs to change.

    Else upright, 8-bit grey or RGB, with a long side of at most `max_side_px`; JPEG stays JPEG, because
    photographs as PNG are many times larger, and everything else becomes PNG.

    Raises:
        UNREADABLE: The file cannot be decoded to its end, or is animated.
    """
    image = open_image(content)
    if getattr(image, "is_animated", False):
        raise ValueError("an animation, not one image")
    jpeg = image.format == "JPEG"
    orientation = image.getexif().get(0x0112, 1) if jpeg else 1
    as_it_is = plain_png_header(content) is not None or (
        jpeg and image.mode in ("L", "RGB") and orientation == 1
    )
    image = plain(image)  # decodes, so a damaged file is found here
    small = shrunk(image, max_side_px)
    if as_it_is and small.size == image.size:
        return content
    if jpeg:
        sink = io.BytesIO()
        small.save(sink, "JPEG", quality=95, subsampling=0)
        return sink.getvalue()
    return png(small)


def image_shards(
    source: Source, rows: Sequence[ImageRow], classes: tuple[str, ...], config: IngestConfig
) -> list[ImageShard]:
    """Rows in order of split and path, cut into shards."""
    size_of = {file.path: file.bytes for file in source.files}
    shards: list[ImageShard] = []
    for split in SPLITS:
        part: list[ImageRow] = []
        size = 0
        for row in sorted((row for row in rows if row.split == split), key=lambda row: row.path):
            if part and (len(part) == SHARD_ROWS or size + size_of[row.path] > SHARD_BYTES):
                shards.append(_shard(split, part, source, classes, config))
                part, size = [], 0
            part.append(row)
            size += size_of[row.path]
        if part:
            shards.append(_shard(split, part, source, classes, config))
    return shards


def lone_csv(source: Source) -> str | None:
    """Path of the only CSV file of a source; None where there is none or several."""
    found = [file.path for file in source.files if file.path.lower().endswith(".csv")]
    return found[0] if len(found) == 1 else None


def label_names(source: Source, config: IngestConfig) -> tuple[str, ...]:
    """Names of the integer labels: from the settings, or from a file beside the images.

    The file is a JSON object `{"0": "cat", "1": "dog"}` or a JSON list `["cat", "dog"]`.
    """
    if config.label_names:
        return config.label_names
    file = source.named(*LABEL_NAMES_FILES)
    if file is None:
        return ()
    try:
        content = json.loads(source.reader.read(file.path))
        if isinstance(content, dict):
            content = [content[str(index)] for index in range(len(content))]
        if isinstance(content, list) and content and all(isinstance(name, str) for name in content):
            return tuple(content)
    except (ValueError, KeyError):
        pass  # told below, with everything else that the file may be
    raise InvalidData(
        f"The file {file.path} does not hold names of labels",
        where=source.given,
        allowed='a JSON object from "0", "1", … to names, or a JSON list of names',
    )


def _shard(
    split: str, part: list[ImageRow], source: Source, classes: tuple[str, ...], config: IngestConfig
) -> ImageShard:
    return ImageShard(split, tuple(part), source.reader, classes, config.max_image_side_px)
