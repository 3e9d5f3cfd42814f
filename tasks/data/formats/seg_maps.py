"""Segmentation maps: images whose pixels are class numbers."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from tasks.data.formats.images import MAX_PIXELS, open_image

MOST_CLASSES = 256
"""Maps are stored with one byte a pixel."""


def seg_map(content: bytes) -> np.ndarray:
    """Class numbers of a map, [height, width]: grey levels, or the numbers of a palette's colours.

    Raises:
        UNREADABLE: It is no such image.
    """
    if not content:
        raise ValueError("an empty file")
    image = open_image(content)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width:,} × {image.height:,} pixels, more than {MAX_PIXELS:,} in all")
    if image.format in ("JPEG", "MPO"):
        raise ValueError("a JPEG file, which blurs class numbers")
    image.load()
    if image.mode == "1":
        image = image.convert("L").point(lambda value: value // 255)
    if image.mode not in ("L", "P") and not image.mode.startswith("I"):
        raise ValueError(f"its pixels are colours ({image.mode}), not class numbers")
    values: np.ndarray = np.array(image)
    if values.min() < 0 or values.max() >= 2**16:
        raise ValueError("it holds numbers below 0 or above 65,535")
    return values


def with_ids(content: bytes, ids: list[int]) -> bytes:
    """A stored map with the class numbers that the data came with."""
    if ids == list(range(len(ids))):
        return content
    values = np.asarray(ids)[np.asarray(open_image(content))]
    sink = io.BytesIO()
    Image.fromarray(values.astype(np.uint8 if max(ids) < 256 else np.uint16)).save(sink, "PNG")
    return sink.getvalue()
