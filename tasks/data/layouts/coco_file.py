"""One COCO file: what it must hold, and every fault in it by name."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from tasks.data.formats.rle import decode
from tasks.data.listed import listed
from tasks.data.sources.addresses import leads_out
from tasks.data.sources.source import Source
from tasks.errors import InvalidData

ANNOTATIONS_FILE = "_annotations.coco.json"

SLACK_PX = 1.0
"""Boxes may stand out by rounding; they are cut to the image."""

MOST_NAMED = 10


@dataclass(frozen=True)
class Annotated:
    """The label of an image: the size that its file states, and its objects.

    Objects are dicts in the form of `tasks.data.shards.schema`.
    """

    size: tuple[int, int]
    objects: list[dict[str, Any]]


@dataclass
class Faults:
    """What is wrong in all files, to be told together."""

    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        self.lines.append(line)

    def refuse(self, where: str) -> None:
        """Raise InvalidData if there is any."""
        if self.lines:
            raise InvalidData(
                f"{len(self.lines):,} faults in the annotations: {listed(self.lines, MOST_NAMED)}",
                where=where,
                allowed="COCO: each image once with its width and height, boxes x, y, width, height in "
                "pixels inside it, categories from the list",
                mend="correct these entries, or take them out",
            )


def read_annotations(
    source: Source,
    path: str,
    images: set[str],
    annotated: dict[str, Annotated],
    names: dict[int, str],
    instances: bool,
    faults: Faults,
) -> None:
    """Add what a file says to `annotated` (by path in the source) and `names` (of categories, by id).

    Args:
        source: The listing.
        path: The file.
        images: Paths of all images of the source.
        annotated: What was found so far; objects have category ids.
        names: Names of categories.
        instances: Whether every object needs a polygon or a mask.
        faults: Where faults are collected.
    """
    document = _document(source, path)
    _read_categories(document, path, names, faults)
    path_of, listed_ids = _read_images(document, path, images, annotated, faults)
    seen: set[Any] = set()
    for place, entry in enumerate(document["annotations"], 1):
        what = f"{path}: annotation {_id(entry) if _id(entry) is not None else f'number {place}'}"
        if not isinstance(entry, dict) or _id(entry) is None:
            faults.add(f"{what} has no id")
            continue
        if entry["id"] in seen:
            faults.add(f"{what} is there twice")
        seen.add(entry["id"])
        image = path_of.get(entry["image_id"]) if _can_be_id(entry.get("image_id")) else None
        if image is None:
            # Where the image's own entry is at fault, its annotations are not told besides.
            if not _can_be_id(entry.get("image_id")) or entry["image_id"] not in listed_ids:
                faults.add(f"{what} is of the image {entry.get('image_id')!r}, which is not listed")
            continue
        category = entry.get("category_id")
        if not isinstance(category, int) or category not in names:
            faults.add(f"{what} is of the category {category!r}, which is not listed")
            continue
        one = _object(entry, annotated[image].size, instances, f"{what} in {image}", faults)
        if one is not None:
            annotated[image].objects.append(one | {"category": category})


def _document(source: Source, path: str) -> dict[str, list[Any]]:
    if source.named(path) is None:
        raise InvalidData(f"There is no file {path} of annotations", where=source.given)
    try:
        document = json.loads(source.reader.read(path))
        fault = "" if isinstance(document, dict) else "it is no object"
        for name in ("images", "annotations", "categories"):
            if not fault and not isinstance(document.get(name), list):
                fault = f"it has no list {name}"
    except (ValueError, RecursionError) as error:
        fault = str(error) or "too deeply nested"
    if fault:
        raise InvalidData(
            f"The file {path} is not a COCO file: {fault}",
            where=source.given,
            allowed="JSON with the lists images, annotations and categories",
        )
    return document  # type: ignore[no-any-return]


def _read_categories(
    document: dict[str, list[Any]], path: str, names: dict[int, str], faults: Faults
) -> None:
    seen: set[int] = set()
    for entry in document["categories"]:
        category, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if (
            not isinstance(category, int)
            or isinstance(category, bool)
            or not isinstance(name, str)
            or not name
        ):
            faults.add(f"{path}: the category {str(entry)[:80]} needs a whole number as id, and a name")
        elif category in seen:
            faults.add(f"{path}: the category id {category} is there twice")
        elif names.get(category, name) != name:
            faults.add(
                f"{path}: the category {category} is {name!r} here, and {names[category]!r} in another file"
            )
        elif name in names.values() and category not in names:
            faults.add(f"{path}: the name {name!r} has two category ids")
        else:
            names[category] = name
        if isinstance(category, int):
            seen.add(category)
    if not document["categories"]:
        faults.add(f"{path}: there is no category")


def _read_images(
    document: dict[str, list[Any]],
    path: str,
    images: set[str],
    annotated: dict[str, Annotated],
    faults: Faults,
) -> tuple[dict[Any, str], set[Any]]:
    """Path by image id; and all ids, those of faulty entries among them."""
    folder = PurePosixPath(path).parent
    path_of: dict[Any, str] = {}
    seen: set[Any] = set()
    for place, entry in enumerate(document["images"], 1):
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or _id(entry) is None:
            faults.add(f"{path}: image number {place} needs an id and a file_name")
            continue
        what = f"{path}: image {entry['id']} ({name})"
        if entry["id"] in seen:
            faults.add(f"{what}: this id is there twice")
            continue
        seen.add(entry["id"])
        if leads_out(name):
            faults.add(f"{what} leads out of the folder")
            continue
        where = str(folder / name)
        width, height = _whole(entry.get("width")), _whole(entry.get("height"))
        if where not in images:
            faults.add(f"{what} is not there")
        elif where in annotated:
            faults.add(f"{what}: this file is listed twice")
        elif width is None or height is None:
            faults.add(f"{what} needs a width and a height")
        else:
            annotated[where] = Annotated((width, height), [])
            path_of[entry["id"]] = where
    return path_of, seen


def _object(
    entry: dict[str, Any], size: tuple[int, int], instances: bool, what: str, faults: Faults
) -> dict[str, Any] | None:
    """An annotation in the stored form; None, and a fault, if it is wrong."""
    width, height = size
    box = _numbers(entry.get("bbox"), 4)
    if box is None:
        faults.add(f"{what} needs a bbox of four numbers")
        return None
    x, y, across, down = box
    shown = ", ".join(f"{value:g}" for value in box)
    if across <= 0 or down <= 0:
        faults.add(f"{what}: the box {shown} has no area")
        return None
    if x < -SLACK_PX or y < -SLACK_PX or x + across > width + SLACK_PX or y + down > height + SLACK_PX:
        faults.add(f"{what}: the box {shown} lies outside the image of {width} × {height}")
        return None
    right, lower = min(x + across, float(width)), min(y + down, float(height))
    left, upper = max(x, 0.0), max(y, 0.0)
    if right <= left or lower <= upper:
        faults.add(f"{what}: the box {shown} has no area inside the image of {width} × {height}")
        return None
    # A box that is inside stays as it is, to the last bit.
    inside = left == x and upper == y and right == x + across and lower == y + down
    area = entry.get("area")
    known_area = _numbers([area], 1)
    if area is not None and (known_area is None or known_area[0] < 0):
        faults.add(f"{what}: the area {str(area)[:40]} is no number above 0")
        return None
    result: dict[str, Any] = {
        "bbox": [x, y, across, down] if inside else [left, upper, right - left, lower - upper],
        "area": known_area[0] if known_area else across * down,
        "iscrowd": entry.get("iscrowd", 0) in (1, True),
    }
    if not instances:
        return result
    mask = entry.get("segmentation")
    if isinstance(mask, dict):
        try:
            decoded = decode(mask)
        except ValueError as error:
            faults.add(f"{what}: {error}")
            return None
        if decoded.shape != (height, width):
            faults.add(
                f"{what}: its mask is of {decoded.shape[1]} × {decoded.shape[0]}, not {width} × {height}"
            )
            return None
        kept = {"size": [height, width], "counts": mask["counts"]}
        return result | {"segmentation": None, "rle": json.dumps(kept)}
    polygons = _polygons(mask, size)
    if isinstance(polygons, str):
        faults.add(f"{what}: {polygons}")
        return None
    return result | {"segmentation": polygons, "rle": None}


def _polygons(given: Any, size: tuple[int, int]) -> list[list[float]] | str:
    """Polygons, cut to the image; or what is wrong with them."""
    if not isinstance(given, list) or not given:
        return "it has neither polygons nor a mask in segmentation"
    result = []
    for polygon in given:
        values = _numbers(polygon, None)
        if values is None or len(values) < 6 or len(values) % 2:
            return "a polygon needs three points or more, x and y in turn"
        limits = [float(size[place % 2]) for place in range(len(values))]
        if any(
            not -SLACK_PX <= value <= limit + SLACK_PX for value, limit in zip(values, limits, strict=True)
        ):
            return f"a polygon lies outside the image of {size[0]} × {size[1]}"
        result.append([min(max(value, 0.0), limit) for value, limit in zip(values, limits, strict=True)])
    return result


def _numbers(given: Any, count: int | None) -> list[float] | None:
    """Finite numbers, so many of them."""
    if not isinstance(given, Sequence) or isinstance(given, str) or count not in (None, len(given)):
        return None
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in given):
        return None
    try:
        values = [float(value) for value in given]
    except OverflowError:
        return None
    return values if all(math.isfinite(value) for value in values) else None


def _whole(given: Any) -> int | None:
    given = int(given) if isinstance(given, float) and given.is_integer() else given
    return given if isinstance(given, int) and not isinstance(given, bool) and given > 0 else None


def _id(entry: Any) -> Any:
    """The id of an entry; None if it has none that can be one."""
    given = entry.get("id") if isinstance(entry, dict) else None
    return given if _can_be_id(given) else None


def _can_be_id(given: Any) -> bool:
    return isinstance(given, (int, str)) and not isinstance(given, bool)
