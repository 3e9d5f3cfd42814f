"""Boxes, polygons, masks and segmentation maps that follow their image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from tasks.data.formats.images import png
from tasks.data.formats.rle import decode, encode
from tasks.data.methods.method import Geometry

SMALLEST_PX = 1e-3
"""What a crop leaves of an object counts as nothing below this width, height or area in pixels."""


def moved_objects(objects: Sequence[dict[str, Any]], geometry: Geometry) -> tuple[list[dict[str, Any]], int]:
    """The objects of an image after it was moved, and how many are no longer in it.

    Boxes stay upright: a box is the smallest around its turned corners, or around the polygons where the
    object has some, as far as it is in the image. Areas shrink with what is cut off.
    """
    moved = [_moved_object(one, geometry) for one in objects]
    kept = [one for one in moved if one is not None]
    return kept, len(moved) - len(kept)


def _moved_object(one: dict[str, Any], geometry: Geometry) -> dict[str, Any] | None:
    result = dict(one)
    scale = abs(float(np.linalg.det(geometry.matrix[:, :2])))
    x, y, width, height = one["bbox"]
    outline = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float64)
    shapes = [np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in one.get("segmentation") or ()]
    outlines = [_placed(shape, geometry) for shape in shapes or [outline]]
    clipped = [_clipped(shape, geometry.size) for shape in outlines]
    clipped = [shape for shape in clipped if len(shape) >= 3 and _area(shape) > SMALLEST_PX**2]
    if not clipped:
        return None
    points = np.concatenate(clipped)
    low, high = points.min(axis=0), points.max(axis=0)
    if (high - low < SMALLEST_PX).any():
        return None
    result["bbox"] = [float(value) for value in (*low, *(high - low))]
    if shapes:
        result["segmentation"] = [[float(value) for value in shape.ravel()] for shape in clipped]
    before = sum(_area(shape) for shape in outlines)
    left = sum(_area(shape) for shape in clipped) / before if before else 1.0
    if one.get("area") is not None:
        result["area"] = float(one["area"] * scale * min(left, 1.0))
    if one.get("rle"):
        mask = np.asarray(_moved_map(Image.fromarray(decode(one["rle"]).astype(np.uint8)), geometry))
        if not mask.any():
            return None
        result["rle"] = encode(mask)
        if not shapes:
            rows, columns = np.nonzero(mask)
            low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
            result["bbox"] = [float(value) for value in (*low, *(high - low))]
    return result


def _placed(points: np.ndarray, geometry: Geometry) -> np.ndarray:
    placed: np.ndarray = points @ geometry.matrix[:, :2].T + geometry.matrix[:, 2]
    return placed


def _clipped(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What of a polygon lies in the image: Sutherland and Hodgman, one edge of the image after the other."""
    for axis, sign, limit in ((0, 1, 0.0), (0, -1, size[0]), (1, 1, 0.0), (1, -1, size[1])):
        if not len(points):
            break
        inward = sign * (points[:, axis] - limit)
        if (inward >= 0).all():
            continue
        kept: list[np.ndarray] = []
        for place in range(len(points)):
            start, end = points[place - 1], points[place]
            before, after = inward[place - 1], inward[place]
            if (before < 0) != (after < 0):
                crossing = start + (end - start) * (before / (before - after))
                crossing[axis] = limit
                kept.append(crossing)
            if after >= 0:
                kept.append(end)
        points = np.array(kept).reshape(-1, 2)
    return points


def _area(points: np.ndarray) -> float:
    x, y = points[:, 0], points[:, 1]
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def moved_map(content: bytes, geometries: Sequence[Geometry]) -> bytes:
    """A segmentation map after the moves of its image, by nearest neighbour; class 0 beyond its edge."""
    image = Image.open(io.BytesIO(content))
    image.load()
    if not geometries:
        return content
    # Pixels are class numbers: those of a palette image are its indices, never its colours.
    numbers = np.asarray(image)
    moved = Image.fromarray(numbers if numbers.dtype == np.uint8 else numbers.astype(np.int32))
    for geometry in geometries:
        moved = _moved_map(moved, geometry)
    if moved.mode == "L":
        return png(moved)
    sink = io.BytesIO()
    Image.fromarray(np.asarray(moved).astype(np.uint16)).save(sink, "PNG")
    return sink.getvalue()


def _moved_map(image: Image.Image, geometry: Geometry) -> Image.Image:
    backward = np.linalg.inv(np.vstack([geometry.matrix, [0, 0, 1]]))[:2]
    coefficients = tuple(round(float(value), 12) for value in backward.ravel())
    return image.transform(
        geometry.size, Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST, fillcolor=0
    )
