"""Images of random pixels, and the files of them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 8, height: int = 8, mode: str = "L") -> Image.Image:
    """Random pixels, the same for the same seed."""
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    return Image.fromarray(pixels, mode)


def encoded(image: Image.Image, format: str = "PNG") -> bytes:  # noqa: A002
    sink = io.BytesIO()
    image.save(sink, format)
    return sink.getvalue()
