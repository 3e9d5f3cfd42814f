"""COCO: images with boxes, polygons or masks in one JSON file a split."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from tasks.data.config import IngestConfig
from tasks.data.formats.images import stored_image
from tasks.data.formats.rle import decode, encode
from tasks.data.layouts.coco_file import ANNOTATIONS_FILE, Annotated, Faults, read_annotations
from tasks.data.layouts.examples import CLASSES, SIDE_PX, encoded, example_image, example_places
from tasks.data.layouts.exported import Names, json_list, rows_of, writes_splits
from tasks.data.layouts.layout import Contents, File, StoredVersion
from tasks.data.layouts.media_rows import (
    UNLABELLED_FOLDERS,
    MediaRow,
    feature_of,
    is_unlabelled,
    media_paths,
    partitions,
    split_of,
)
from tasks.data.listed import listed
from tasks.data.manifest import OBJECTS_COLUMN, SPLIT_OF
from tasks.data.shards import schema
from tasks.data.sources.source import Reader, Source
from tasks.errors import InvalidData
from tasks.refs import Problem

if TYPE_CHECKING:
    from distributed import Client

SPOOL_BYTES = 16 * 2**20
BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class ObjectsForm:
    """Images whose label is an `Annotated`: boxes, polygons and masks shrink with the image."""

    max_side_px: int

    def row(self, reader: Reader, path: str, label: Annotated | None) -> tuple[bytes, Any]:
        if label is None:
            return stored_image(reader.read(path), self.max_side_px).content, None
        found = stored_image(reader.read(path), self.max_side_px, label.size)
        if found.size == found.full_size:
            return found.content, label.objects
        across, down = (new / old for new, old in zip(found.size, found.full_size, strict=True))
        return found.content, [_scaled(one, across, down, found.size) for one in label.objects]


class Coco:
    """`train/_annotations.coco.json` beside its images; `validation/`, `test/` the same, or no splits.

    An image that the file lists without annotations holds no object; one that no file lists has no label.
    """

    name = "coco"
    describes = (
        f"images with a COCO file {ANNOTATIONS_FILE} beside them, in train, validation, test or at the top"
    )

    def reads(self, problem: Problem) -> bool:
        return problem.has_objects

    def matches(self, source: Source, config: IngestConfig) -> bool:
        return self.reads(config.problem) and bool(_annotation_files(source, config))

    def read(self, source: Source, config: IngestConfig, client: Client | None = None) -> Contents:
        paths = media_paths(source, config.problem)
        faults = Faults()
        files = _annotation_files(source, config)
        instances = config.problem is Problem.INSTANCE_SEGMENTATION
        annotated: dict[str, Annotated] = {}
        names: dict[int, str] = {}
        for path in files:
            read_annotations(source, path, set(paths), annotated, names, instances, faults)
        faults.refuse(source.given)
        bare = [path for path in paths if path not in annotated and not is_unlabelled(path)]
        if bare and config.unlabelled == "refuse":
            raise InvalidData(
                f"{len(bare):,} images are in no annotation file: {listed(bare)}",
                where=f"{source.given}, whose files list {len(annotated):,} images",
                allowed="as many images in the files as there are; an image without objects is listed, too",
                mend="list the images, remove them, or set unlabelled to keep",
            )
        order = sorted(names)
        index_of = {category: index for index, category in enumerate(order)}
        objects = 0
        for one in annotated.values():
            objects += len(one.objects)
            for each in one.objects:
                each["category"] = index_of[each["category"]]
        if not objects and config.unlabelled == "refuse" and not config.add:
            raise InvalidData(
                "No image has an object",
                where=listed(files),
                mend="annotate the images, or set unlabelled to keep",
            )
        rows = [MediaRow(path, split_of(path), annotated.get(path)) for path in paths]
        classes = tuple(names[category] for category in order)
        features = (feature_of(config.problem),)
        layout = schema(config.problem, features, OBJECTS_COLUMN, classes)
        return Contents(
            features=features,
            label=OBJECTS_COLUMN,
            classes=classes,
            partitions=partitions(source, rows, ObjectsForm(config.max_image_side_px), layout, config),
            unlabelled=sum(row.label is None for row in rows),
            parameters={"category_ids": order},
        )

    def export(self, version: StoredVersion) -> Iterator[File]:
        classes = version.manifest.classes
        # The ids that the data came with; numbers of our own for classes that were added since.
        ids = list(version.origin.parameters.get("category_ids", ()))[: len(classes)]
        ids += range(max(ids, default=0) + 1, max(ids, default=0) + 1 + len(classes) - len(ids))
        splits = writes_splits(version)
        names = Names(folders=UNLABELLED_FOLDERS)
        for split in version.splits:
            above = [split] if splits else []
            # One JSON file holds three lists, and images are written in between: two of them wait on disk.
            with (
                tempfile.SpooledTemporaryFile(SPOOL_BYTES) as images,
                tempfile.SpooledTemporaryFile(SPOOL_BYTES) as annotations,
            ):
                number = itertools.count(1)
                listed_images = 0
                for row in rows_of(version, split):
                    path = names.path(above, ["unlabelled"] if row.label is None else [], row)
                    yield path, [row.content]
                    if row.label is None:
                        continue
                    listed_images += 1
                    width, height = _size(row.content)
                    image = {
                        "id": listed_images,
                        "file_name": path.removeprefix(f"{split}/") if splits else path,
                        "width": width,
                        "height": height,
                    }
                    images.write(_line(image))
                    for one in row.label:
                        annotations.write(_line(_annotation(next(number), listed_images, one, ids)))
                categories = [
                    {"id": category, "name": name, "supercategory": ""}
                    for category, name in zip(ids, classes, strict=True)
                ]
                yield "/".join([*above, ANNOTATIONS_FILE]), _document(images, annotations, categories)

    def template(self, problem: Problem) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        documents: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for place, (split, label, number) in enumerate(example_places()):
            document = documents.setdefault(split, {"images": [], "annotations": []})
            image = len(document["images"]) + 1
            name = f"{label}-{number}.png"
            files[f"{split}/{name}"] = encoded(example_image(place, label == "bright"))
            document["images"].append({"id": image, "file_name": name, "width": SIDE_PX, "height": SIDE_PX})
            document["annotations"].append(
                {
                    "id": image,
                    "image_id": image,
                    "category_id": CLASSES.index(label) + 1,
                    "bbox": [8, 8, 16, 16],
                    "area": 256,
                    "iscrowd": 0,
                    "segmentation": [[8, 8, 24, 8, 24, 24, 8, 24]],
                }
            )
        categories = [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)]
        for split, document in documents.items():
            files[f"{split}/{ANNOTATIONS_FILE}"] = json.dumps(
                {**document, "categories": categories}, indent=1
            ).encode()
        return files


def _annotation_files(source: Source, config: IngestConfig) -> list[str]:
    if config.labels_file is not None:
        return [config.labels_file]
    folders = ["", *sorted({path.split("/")[0] + "/" for path in source.paths if "/" in path})]
    known = [folder for folder in folders if not folder or folder[:-1].lower() in SPLIT_OF]
    found = [source.named(folder + ANNOTATIONS_FILE) for folder in known]
    return [path for path in found if path is not None]


def _scaled(one: dict[str, Any], across: float, down: float, size: tuple[int, int]) -> dict[str, Any]:
    """An object after its image became so much wider and higher."""
    x, y, width, height = one["bbox"]
    result = {
        **one,
        "bbox": [x * across, y * down, width * across, height * down],
        "area": one["area"] * across * down,
    }
    if one.get("segmentation"):
        factors = itertools.cycle((across, down))
        result["segmentation"] = [
            [value * factor for value, factor in zip(polygon, factors, strict=False)]
            for polygon in one["segmentation"]
        ]
    if one.get("rle"):
        mask = Image.fromarray(decode(one["rle"])).resize(size, Image.Resampling.NEAREST)
        import numpy as np

        result["rle"] = encode(np.asarray(mask))
    return result


def _annotation(number: int, image: int, one: dict[str, Any], ids: list[int]) -> dict[str, Any]:
    mask = json.loads(one["rle"]) if one.get("rle") else one.get("segmentation") or []
    return {
        "id": number,
        "image_id": image,
        "category_id": ids[one["category"]],
        "bbox": one["bbox"],
        "area": one["area"],
        "iscrowd": int(one["iscrowd"]),
        "segmentation": mask,
    }


def _size(content: bytes) -> tuple[int, int]:
    from tasks.data.formats.images import open_image

    return open_image(content).size


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


def _document(images: Any, annotations: Any, categories: list[dict[str, Any]]) -> Iterator[bytes]:
    yield b'{\n"info": {"description": "exported by Trainyard"},\n"licenses": [],\n"categories": '
    yield json.dumps(categories, ensure_ascii=False).encode()
    for name, lines in (("images", images), ("annotations", annotations)):
        lines.seek(0)
        yield f',\n"{name}": '.encode()
        yield from json_list(json.loads(line) for line in lines)
    yield b"\n}\n"
