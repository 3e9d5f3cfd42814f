"""A folder of images with a CSV file of file name and label."""

from __future__ import annotations

import csv
import io
from pathlib import PurePosixPath

from tasks.data.config import IngestConfig
from tasks.data.layouts.image_rows import ImageRow, image_shards, label_names, lone_csv
from tasks.data.layouts.layout import SPLIT_OF, Contents, image_paths, named_classes
from tasks.data.listed import listed
from tasks.data.manifest import IMAGE_COLUMN, LABEL_COLUMN, Feature
from tasks.data.sources import Source
from tasks.errors import InvalidData
from tasks.refs import Problem


class ImageCsv:
    """Two columns, with or without a header: file name and label (a whole number, or a name).

    Images that the file does not name are kept without a label; validation counts them.
    """

    name = "image-csv"
    describes = "images with a CSV of file name and label beside them"

    def reads(self, problem: Problem) -> bool:
        return problem is Problem.IMAGE_CLASSIFICATION

    def matches(self, source: Source, config: IngestConfig) -> bool:
        return (
            self.reads(config.problem)
            and bool(image_paths(source))
            and _labels_path(source, config) is not None
        )

    def read(self, source: Source, config: IngestConfig) -> Contents:
        labels_path = _labels_path(source, config)
        assert labels_path is not None  # `matches` came first
        if source.named(labels_path) is None:
            raise InvalidData(
                f"There is no file {labels_path} of labels",
                where=source.given,
                allowed=listed([file.path for file in source.files if file.path.endswith(".csv")])
                or "no CSV is there",
            )
        label_of = _read_labels(source, labels_path)
        paths = image_paths(source)
        absent = sorted(label_of.keys() - set(paths))
        if absent:
            raise InvalidData(
                f"The file {labels_path} names {len(absent)} images that are not there: {listed(absent)}",
                where=f"{source.given}, which has {len(paths):,} images",
                mend="add the images, or take the lines out",
            )
        written = [label for label in label_of.values() if label]
        classes, index_of = named_classes(written, label_names(source, config), labels_path)
        rows = [
            ImageRow(
                path, SPLIT_OF.get(path.split("/")[0].lower(), "train"), index_of.get(label_of.get(path, ""))
            )
            for path in paths
        ]
        return Contents(
            features=(Feature(name=IMAGE_COLUMN, type="image"),),
            label=LABEL_COLUMN,
            classes=classes,
            shards=image_shards(source, rows, classes, config),
            on_workers=True,
        )


def _labels_path(source: Source, config: IngestConfig) -> str | None:
    return config.labels_file or lone_csv(source)


def _read_labels(source: Source, labels_path: str) -> dict[str, str]:
    """Label by image path; the file's names are relative to the file itself."""
    try:
        text = source.reader.read(labels_path).decode("utf-8-sig")
        first = text.split("\n", 1)[0]
        delimiter = max(",;\t", key=first.count)
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(line)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidData(
            f"The file {labels_path} is not a CSV file in UTF-8: {error}",
            where=source.given,
            mend="save it as UTF-8",
        ) from None
    folder = PurePosixPath(labels_path).parent
    images = set(image_paths(source))
    if lines and str(folder / lines[0][0].strip()) not in images and "." not in lines[0][0]:
        lines = lines[1:]  # a header: its first cell is no file name
    label_of: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, label = (line[0].strip(), line[1].strip()) if len(line) > 1 else (line[0].strip(), "")
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
            fault = f"names {name!r}, which leads out of the folder"
        elif str(folder / name) in label_of:
            fault = f"names {name} for the second time"
        else:
            label_of[str(folder / name)] = label
            continue
        raise InvalidData(
            f"Row {number} of {labels_path} {fault}",
            where=source.given,
            allowed="each image once, by its path below the folder of the CSV",
        )
    if not label_of:
        raise InvalidData(
            f"The file {labels_path} has no rows", where=source.given, mend="write one row an image"
        )
    return label_of
