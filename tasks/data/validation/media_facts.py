"""Facts of the files and texts of a shard: sizes, whether they decode, whether their labels fit them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.formats.images import UNREADABLE, open_image
from tasks.data.manifest import AUDIO_COLUMN, IMAGE_COLUMN, TEXT_COLUMN, Manifest
from tasks.refs import Problem

DECODABLE = "file decodable"
BYTES = "file bytes"
WIDTH = "image width"
HEIGHT = "image height"
SHORT_SIDE = "image shorter side"
LONG_SIDE = "image longer side"
MODE = "image mode"
LENGTH = "text length"
SECONDS = "sound seconds"
FRAMES = "sound frames"
RATE = "sound rate"
CHANNELS = "sound channels"
LABELLED = "labelled"
OBJECTS = "objects"
UNKNOWN_OBJECTS = "objects of an unknown class"
OUTSIDE_OBJECTS = "objects outside the image"
FLAT_OBJECTS = "objects without area"
SHAPELESS_OBJECTS = "objects without outline"
MAP_DECODABLE = "map decodable"
MAP_FITS = "map as large as its image"
UNKNOWN_PIXELS = "map pixels of an unknown class"

MODES = (
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "LA",
    "PA",
    "La",
    "RGBa",
    "I;16",
)
OTHER_MODE = "other"

OUTSIDE_PX = 1.0
"""How far a box may reach over the edge: labelling tools round to whole pixels, one way or the other."""


@dataclass(frozen=True)
class Ragged:
    """Any number of class numbers for each of n rows.

    Attributes:
        values: int32, those of the first row, then those of the second, and so on.
        lengths: int64 [n].
    """

    values: np.ndarray
    lengths: np.ndarray

    @staticmethod
    def joined(parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts, one after the other."""
        return Ragged(
            np.concatenate([part.values for part in parts]), np.concatenate([part.lengths for part in parts])
        )

    def reduced(self, numbers: np.ndarray, ufunc: np.ufunc, empty: Any) -> np.ndarray:
        """One number for each row out of a number for each value; `empty` for a row without any."""
        result = np.full(len(self.lengths), empty, numbers.dtype)
        some = self.lengths > 0
        if some.any():
            starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])[some]
            result[some] = ufunc.reduceat(numbers, starts)
        return result


def media_facts(table: pa.Table, manifest: Manifest) -> tuple[dict[str, np.ndarray], Ragged | None]:
    """Facts of n rows as arrays [n], and the classes of their objects or maps; -1 for what is unknown."""
    if manifest.problem.modality == "text":
        stripped = pc.utf8_trim_whitespace(pc.fill_null(table[TEXT_COLUMN], ""))
        return {LENGTH: pc.utf8_length(stripped).to_numpy().astype(np.int64)}, None
    if manifest.problem.modality == "audio":
        return _each(table[AUDIO_COLUMN], _sound_facts), None
    facts = _each(table[IMAGE_COLUMN], _image_facts)
    if manifest.problem.is_classification:
        return facts, None
    labels = table[manifest.label]
    facts[LABELLED] = labels.is_valid().to_numpy()
    classes = len(manifest.classes)
    if manifest.problem is Problem.SEMANTIC_SEGMENTATION:
        sizes = zip(facts[WIDTH].tolist(), facts[HEIGHT].tolist(), strict=True)
        maps = [
            _map_facts(content, size, classes) for content, size in zip(_contents(labels), sizes, strict=True)
        ]
        facts.update(_columns([about for about, _ in maps]))
        return facts, _ragged([numbers for _, numbers in maps])
    rows = []
    for objects, width, height in zip(labels, facts[WIDTH].tolist(), facts[HEIGHT].tolist(), strict=True):
        rows.append(_object_facts(objects.as_py() or [], width, height, classes, manifest.problem))
    facts.update(_columns([about for about, _ in rows]))
    return facts, _ragged([numbers for _, numbers in rows])


def shown(facts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Facts as expectations see them: missing where they are unknown, modes by their names."""
    frame: dict[str, np.ndarray] = {}
    for name, values in facts.items():
        if name == MODE:
            frame[name] = np.array([*MODES, OTHER_MODE, None], dtype=object)[values]
        elif values.dtype == bool:
            frame[name] = values
        else:
            frame[name] = np.where(values < 0, np.nan, values)
    if WIDTH in frame:
        frame[SHORT_SIDE] = np.minimum(frame[WIDTH], frame[HEIGHT])
        frame[LONG_SIDE] = np.maximum(frame[WIDTH], frame[HEIGHT])
    return frame


def _contents(files: pa.ChunkedArray) -> Iterator[bytes]:
    for one in pc.struct_field(files, "bytes"):
        yield one.as_py() or b""


def _each(files: pa.ChunkedArray, facts: Callable[[bytes], dict[str, Any]]) -> dict[str, np.ndarray]:
    return _columns([facts(content) for content in _contents(files)])


def _columns(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else {})}


def _ragged(rows: list[np.ndarray]) -> Ragged:
    values = np.concatenate(rows) if rows else np.empty(0)
    return Ragged(values.astype(np.int32), np.array([len(row) for row in rows], np.int64))


def _image_facts(content: bytes) -> dict[str, Any]:
    facts = {WIDTH: -1, HEIGHT: -1, MODE: -1, BYTES: len(content), DECODABLE: False}
    try:
        image = open_image(content)
        facts[WIDTH], facts[HEIGHT] = image.size
        facts[MODE] = MODES.index(image.mode) if image.mode in MODES else len(MODES)
        # A JPEG is read to its end, and an eighth of its pixels is made: a third of the time.
        image.draft("L", (image.width // 8, image.height // 8))
        image.load()
    except UNREADABLE:
        return facts
    facts[DECODABLE] = True
    return facts


def _sound_facts(content: bytes) -> dict[str, Any]:
    import soundfile

    facts: dict[str, Any] = {
        SECONDS: -1.0, FRAMES: -1, RATE: -1, CHANNELS: -1, BYTES: len(content), DECODABLE: False,
    }  # fmt: skip
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            facts[RATE], facts[CHANNELS] = sound.samplerate, sound.channels
            frames = sum(len(block) for block in sound.blocks(65_536, dtype="float32"))
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError):
        return facts
    facts.update({FRAMES: frames, SECONDS: frames / facts[RATE], DECODABLE: True})
    return facts


def _object_facts(
    objects: list[dict[str, Any]], width: int, height: int, classes: int, problem: Problem
) -> tuple[dict[str, int], np.ndarray]:
    numbers = np.array([one["category"] for one in objects], np.int64)
    boxes = np.array([one["bbox"] for one in objects], np.float64).reshape(-1, 4)
    known = (numbers >= 0) & (numbers < classes)
    outside = _outside(boxes[:, :2], width, height) | _outside(boxes[:, :2] + boxes[:, 2:], width, height)
    facts = {
        OBJECTS: len(objects),
        UNKNOWN_OBJECTS: int((~known).sum()),
        FLAT_OBJECTS: int((~(boxes[:, 2:] > 0).all(axis=1)).sum()),  # NaN is no area either
    }
    if problem is Problem.INSTANCE_SEGMENTATION:
        shapeless = 0
        for place, one in enumerate(objects):
            polygons = one.get("segmentation") or []
            sound = all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in polygons)
            shapeless += not (sound and (polygons or one.get("rle")))
            if sound and polygons:
                points = np.concatenate([np.asarray(one, np.float64) for one in polygons]).reshape(-1, 2)
                outside[place] |= bool(_outside(points, width, height).any())
        facts[SHAPELESS_OBJECTS] = shapeless
    facts[OUTSIDE_OBJECTS] = int(outside.sum()) if width > 0 else 0
    return facts, numbers[known]


def _outside(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Which of the points (x, y) are not on the image; those that are no numbers are not."""
    low, high = -OUTSIDE_PX, np.array([width, height]) + OUTSIDE_PX
    return np.asarray(~((points >= low) & (points <= high)).all(axis=1))


def _map_facts(content: bytes, size: tuple[int, int], classes: int) -> tuple[dict[str, Any], np.ndarray]:
    facts = {MAP_DECODABLE: True, MAP_FITS: True, UNKNOWN_PIXELS: 0}
    nothing = np.empty(0, np.int64)
    if not content:
        return facts, nothing  # a row without a label
    try:
        image = open_image(content)
        image.load()
    except UNREADABLE:
        return {**facts, MAP_DECODABLE: False}, nothing
    facts[MAP_FITS] = min(size) < 0 or image.size == size
    numbers, counts = np.unique(np.asarray(image), return_counts=True)
    known = (numbers >= 0) & (numbers < classes)
    facts[UNKNOWN_PIXELS] = int(counts[~known].sum())
    return facts, numbers[known].astype(np.int64)
