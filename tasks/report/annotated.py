"""A stored row of images as people look at it: its label written below, its boxes and maps drawn in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tasks.data.formats.images import open_image, plain
from tasks.data.manifest import IMAGE_COLUMN, Manifest
from tasks.refs import Problem
from tasks.report import style

_LINE_SHARE = 0.012
_MAP_OPACITY = 0.5


def captioned(row: Mapping[str, Any], manifest: Manifest) -> str:
    """The label of a row in a few words."""
    label = row[manifest.label]
    if label is None:
        return "no label"
    if manifest.problem.is_classification:
        return str(manifest.classes[label])
    if manifest.problem.has_objects:
        names = dict.fromkeys(manifest.classes[one["category"]] for one in label)
        return f"{len(label)} {', '.join(names)}" if label else "no object"
    if manifest.problem is Problem.SEMANTIC_SEGMENTATION:
        values = np.unique(np.asarray(open_image(label["bytes"])))
        return ", ".join(manifest.classes[value] for value in values if value < len(manifest.classes))
    return f"{label:g}"


def pictured(row: Mapping[str, Any], manifest: Manifest) -> Image.Image:
    """The image of a row, with its objects or its map drawn into it."""
    image = open_image(row[IMAGE_COLUMN]["bytes"])
    image.load()
    label = row[manifest.label]
    if not label or manifest.problem.is_classification:
        return image
    picture = plain(image).convert("RGB")
    if manifest.problem.has_objects:
        return _with_objects(picture, label)
    return _with_map(picture, np.asarray(open_image(label["bytes"])))


def _with_objects(picture: Image.Image, objects: list[Mapping[str, Any]]) -> Image.Image:
    draw = ImageDraw.Draw(picture)
    width = max(1, round(max(picture.size) * _LINE_SHARE))
    for one in objects:
        colour = _colour(one["category"])
        x, y, wide, high = one["bbox"]
        draw.rectangle((x, y, x + wide, y + high), outline=colour, width=width)
        for polygon in one.get("segmentation") or ():
            if len(polygon) >= 6:
                draw.polygon(polygon, outline=colour, width=width)
    return picture


def _with_map(picture: Image.Image, values: np.ndarray) -> Image.Image:
    palette = np.array([Image.new("RGB", (1, 1), _colour(value)).getpixel((0, 0)) for value in range(256)])
    colours = Image.fromarray(palette[values.astype(np.uint8)].astype(np.uint8))
    if colours.size != picture.size:
        colours = colours.resize(picture.size, Image.Resampling.NEAREST)
    return Image.blend(picture, colours, _MAP_OPACITY)


def _colour(number: int) -> str:
    return style.SERIES_COLOURS[number % len(style.SERIES_COLOURS)]
