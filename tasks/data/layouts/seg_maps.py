"""Semantic segmentation: images, and maps whose pixels are class numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tasks.data.config import IngestConfig
from tasks.data.formats.images import png, stored_image
from tasks.data.formats.seg_maps import MOST_CLASSES, seg_map, with_ids
from tasks.data.layouts.examples import CLASSES, encoded, example_image, example_places
from tasks.data.layouts.exported import ExportedRow, Names, json_list, rows_of
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
from tasks.data.manifest import SEG_MAP_COLUMN, SPLIT_OF
from tasks.data.shards import schema
from tasks.data.sources.addresses import leads_out
from tasks.data.sources.source import Reader, Source
from tasks.errors import InvalidData
from tasks.refs import Problem

if TYPE_CHECKING:
    from distributed import Client

NAMES_FILES = (
    "resources/id2lable.json",
    "resources/id2label.json",
    "id2lable.json",
    "id2label.json",
)
"""The first is how the guide of the system that this layout comes from spells it."""


@dataclass(frozen=True)
class SegMapForm:
    """Images whose label is the path of their map.

    Attributes:
        max_side_px: Longest side; the map is shrunk with its image, without mixing classes.
        ids: Class ids in the maps, sorted; what is stored is the place in this list.
    """

    max_side_px: int
    ids: tuple[int, ...]

    def row(self, reader: Reader, path: str, label: str | None) -> tuple[bytes, bytes | None]:
        content = reader.read(path)
        if label is None:
            return stored_image(content, self.max_side_px).content, None
        try:
            values = seg_map(reader.read(label))
            places = self._places(values)
        except FileNotFoundError:
            raise ValueError(f"its map {label} is gone") from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise ValueError(f"its map {label}: {error}") from None
        except (ValueError, SyntaxError, EOFError) as error:
            raise ValueError(f"its map {label}: {error}") from None
        height, width = values.shape
        found = stored_image(content, self.max_side_px, (width, height))
        stored = Image.fromarray(places)
        if found.size != found.full_size:
            stored = stored.resize(found.size, Image.Resampling.NEAREST)
        return found.content, png(stored)

    def _places(self, values: np.ndarray) -> np.ndarray:
        """Class ids as uint8 places in `ids`."""
        table = np.full(max(int(values.max()), self.ids[-1]) + 1, -1, np.int16)
        table[list(self.ids)] = np.arange(len(self.ids))
        places: np.ndarray = table[values]
        if (places < 0).any():
            unknown = [str(value) for value in np.unique(values[places < 0])]
            raise ValueError(f"it holds class numbers without a name: {listed(unknown)}")
        return np.asarray(places, np.uint8)


class SegMaps:
    """`train/train.json`, a list of `{"image": …, "seg_map": …}`; the same for validation and test.

    Paths are relative to the folder of the JSON file, or to the top. A line without a map is unlabelled on
    purpose.
    """

    name = "seg-maps"
    describes = (
        "images and maps with train/train.json = "
        '[{"image": "images/1.png", "seg_map": "annotations/1.png"}, …]'
        " and resources/id2label.json, the names of the class numbers"
    )

    def reads(self, problem: Problem) -> bool:
        return problem is Problem.SEMANTIC_SEGMENTATION

    def matches(self, source: Source, config: IngestConfig) -> bool:
        return self.reads(config.problem) and bool(_list_files(source))

    def read(self, source: Source, config: IngestConfig, client: Client | None = None) -> Contents:
        names = _class_names(source, config)
        paths = media_paths(source, config.problem)
        there = set(paths)
        rows: dict[str, MediaRow] = {}
        maps: set[str] = set()
        faults: list[str] = []
        files = _list_files(source)
        for path, split in files:
            _read_list(source, path, split, there, rows, maps, faults)
        faults += [f"{path} is listed as an image and as a map" for path in sorted(rows.keys() & maps)]
        if faults:
            raise InvalidData(
                f"{len(faults):,} faults in the lists: {listed(faults, 10)}",
                where=source.given,
                allowed='{"image": "images/1.png", "seg_map": "annotations/1.png"}, each image once, both '
                "files below the folder of the list",
                mend="correct these entries, add the files, or take the entries out",
            )
        bare = [path for path in paths if path not in rows and path not in maps]
        lost = [path for path in bare if not is_unlabelled(path)]
        if lost and config.unlabelled == "refuse":
            raise InvalidData(
                f"{len(lost):,} images are in no list: {listed(lost)}",
                where=f"{source.given}, whose lists have {len(rows):,} entries",
                allowed="every image and every map in one list",
                mend="list them, remove them, or set unlabelled to keep",
            )
        for path in bare:
            rows[path] = MediaRow(path, split_of(path), None)
        if all(row.label is None for row in rows.values()) and config.unlabelled == "refuse":
            raise InvalidData("No image has a map", where=listed([path for path, _ in files]))
        ids = sorted(names)
        classes = tuple(names[number] for number in ids)
        features = (feature_of(config.problem),)
        layout = schema(config.problem, features, SEG_MAP_COLUMN, classes)
        form = SegMapForm(config.max_image_side_px, tuple(ids))
        return Contents(
            features=features,
            label=SEG_MAP_COLUMN,
            classes=classes,
            partitions=partitions(source, rows.values(), form, layout, config),
            unlabelled=sum(row.label is None for row in rows.values()),
            parameters={"class_ids": ids},
        )

    def export(self, version: StoredVersion) -> Iterator[File]:
        classes = version.manifest.classes
        ids = list(version.origin.parameters.get("class_ids", range(len(classes))))
        if len(ids) != len(classes):
            ids = list(range(len(classes)))
        names = Names(folders=["images", *UNLABELLED_FOLDERS])
        for split in version.splits:
            entries = []
            for row in rows_of(version, split):
                path = names.path([split], ["images" if row.label else "unlabelled"], row)
                yield path, [row.content]
                if row.label is None:
                    continue
                map_row = ExportedRow(path.split("/", 2)[2], row.label["bytes"], (".png",), None)
                map_path = names.path([split], ["annotations"], map_row)
                yield map_path, [with_ids(row.label["bytes"], ids)]
                entries.append(
                    {"image": path.removeprefix(f"{split}/"), "seg_map": map_path.removeprefix(f"{split}/")}
                )
            yield f"{split}/{split}.json", json_list(entries)
        yield _names_file(dict(zip(ids, classes, strict=True)))

    def template(self, problem: Problem) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        entries: dict[str, list[dict[str, str]]] = {}
        for place, (split, label, number) in enumerate(example_places()):
            image = example_image(place, label == "bright")
            numbers = np.zeros((image.height, image.width), np.uint8)
            numbers[8:24, 8:24] = 1 + CLASSES.index(label)
            entry = {"image": f"images/{label}-{number}.png", "seg_map": f"annotations/{label}-{number}.png"}
            files[f"{split}/{entry['image']}"] = encoded(image)
            files[f"{split}/{entry['seg_map']}"] = encoded(Image.fromarray(numbers))
            entries.setdefault(split, []).append(entry)
        for split, listed_entries in entries.items():
            files[f"{split}/{split}.json"] = json.dumps(listed_entries, indent=1).encode()
        path, content = _names_file(dict(enumerate(["background", *CLASSES])))
        return files | {path: b"".join(content)}


def _names_file(names: dict[int, str]) -> File:
    content = json.dumps({str(number): name for number, name in names.items()}, ensure_ascii=False, indent=1)
    return NAMES_FILES[0], [content.encode() + b"\n"]


def _list_files(source: Source) -> list[tuple[str, str]]:
    """The lists, each with its split: a file named as the folder that it is in."""
    found = []
    for folder in sorted({path.split("/")[0] for path in source.paths if "/" in path}):
        split = SPLIT_OF.get(folder.lower())
        path = source.named(f"{folder}/{folder}.json", f"{folder}/{split}.json") if split else None
        if path is not None and split is not None:
            found.append((path, split))
    return found


def _class_names(source: Source, config: IngestConfig) -> dict[int, str]:
    """Names by class number."""
    if config.label_names:
        return dict(enumerate(config.label_names))
    path = source.named(*NAMES_FILES)
    if path is None:
        raise InvalidData(
            "There is no file of the names of classes",
            where=source.given,
            allowed=f"{' or '.join(NAMES_FILES[:2])}, or label_names in the settings",
        )
    names: dict[int, str] = {}
    fault = ""
    try:
        content = json.loads(source.reader.read(path))
        content = dict(enumerate(content)) if isinstance(content, list) else content
        names = {int(number): name for number, name in content.items()}
        if not names or not all(isinstance(name, str) and name for name in names.values()):
            fault = "a name is missing"
        elif len(names) < len(content) or len(set(names.values())) < len(names):
            fault = "a number or a name is there twice"
        elif min(names) < 0 or max(names) >= 2**16:
            fault = "a number is below 0 or above 65,535"
        elif not 2 <= len(names) <= MOST_CLASSES:
            fault = f"there are {len(names):,} classes, not 2 to {MOST_CLASSES}"
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        fault = str(error)
    if fault:
        raise InvalidData(
            f"The file {path} does not hold names of classes: {fault}",
            where=source.given,
            allowed='a JSON object such as {"0": "background", "1": "road"}',
        )
    return names


def _read_list(
    source: Source,
    path: str,
    split: str,
    there: set[str],
    rows: dict[str, MediaRow],
    maps: set[str],
    faults: list[str],
) -> None:
    """Add the entries of a list to `rows`, their maps to `maps`, what is wrong to `faults`."""
    try:
        entries = json.loads(source.reader.read(path))
        if not isinstance(entries, list):
            raise ValueError("it is no list")
    except (ValueError, RecursionError) as error:
        raise InvalidData(
            f"The file {path} is not a list of images and maps: {error}",
            where=source.given,
            allowed='JSON such as [{"image": "images/1.png", "seg_map": "annotations/1.png"}]',
        ) from None
    folder = PurePosixPath(path).parent
    for number, entry in enumerate(entries, 1):
        image, seg = (entry.get("image"), entry.get("seg_map")) if isinstance(entry, dict) else (None, None)
        found: list[str] = []
        for name in (image, seg) if seg else (image,):
            what = f"{path}: entry {number} ({str(name)[:200]})"
            if not isinstance(name, str) or not name:
                faults.append(f"{path}: entry {number} names no image")
            elif leads_out(name):
                faults.append(f"{what} leads out of the folder")
            elif (place := _place(name, folder, there)) is None:
                faults.append(f"{what} is not there")
            else:
                found.append(place)
        if len(found) != (2 if seg else 1):
            continue
        if found[0] in rows:
            faults.append(f"{path}: entry {number} ({found[0]}) is listed twice")
            continue
        rows[found[0]] = MediaRow(found[0], split, found[1] if seg else None)
        maps.update(found[1:])


def _place(name: str, folder: PurePosixPath, there: set[Any]) -> str | None:
    return next((path for path in (str(folder / name), str(PurePosixPath(name))) if path in there), None)
