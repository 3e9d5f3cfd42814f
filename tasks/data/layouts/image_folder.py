"""One folder of images a class, with or without folders for splits above."""

from __future__ import annotations

from tasks.data.config import IngestConfig
from tasks.data.layouts.image_rows import ImageRow, image_shards, label_names, lone_csv
from tasks.data.layouts.layout import SPLIT_OF, Contents, image_paths, named_classes
from tasks.data.listed import listed
from tasks.data.manifest import IMAGE_COLUMN, LABEL_COLUMN, Feature
from tasks.data.sources import Source
from tasks.errors import InvalidData
from tasks.refs import Problem


class ImageFolder:
    """`train/<label>/*.png`, `validation/<label>/…`, `test/<label>/…`; or `<label>/*.png`."""

    name = "image-folder"
    describes = "a folder of images a label, such as train/cat/1.png or cat/1.png"

    def reads(self, problem: Problem) -> bool:
        return problem is Problem.IMAGE_CLASSIFICATION

    def matches(self, source: Source, config: IngestConfig) -> bool:
        if not self.reads(config.problem) or config.labels_file:
            return False
        paths = [path.split("/") for path in image_paths(source)]
        depth = 1 if _has_splits(paths) else 0
        labels = {parts[depth] for parts in paths if len(parts) > depth + 1}
        # One folder beside a CSV file holds all the images, and the file holds the labels.
        return len(labels) > 1 or (len(labels) == 1 and lone_csv(source) is None)

    def read(self, source: Source, config: IngestConfig) -> Contents:
        paths = image_paths(source)
        parted = [path.split("/") for path in paths]
        depth = 1 if _has_splits(parted) else 0
        strays = [path for path, parts in zip(paths, parted, strict=True) if len(parts) < depth + 2]
        if strays:
            raise InvalidData(
                f"{len(strays)} images stand in no label folder: {listed(strays)}",
                where=source.given,
                allowed=self.describes,
                mend="move them into the folder of their label, or remove them",
            )
        if not depth:
            _refuse_half_split(parted, source)
        found = [parts[depth] for parts in parted]
        classes, index_of = named_classes(found, label_names(source, config), source.given)
        rows = [
            ImageRow(path, SPLIT_OF[parts[0].lower()] if depth else "train", index_of[parts[depth]])
            for path, parts in zip(paths, parted, strict=True)
        ]
        return Contents(
            features=(Feature(name=IMAGE_COLUMN, type="image"),),
            label=LABEL_COLUMN,
            classes=classes,
            shards=image_shards(source, rows, classes, config),
            on_workers=True,
        )


def _has_splits(parted: list[list[str]]) -> bool:
    """Whether the top folders are splits: then all of them are (a class may be called "train", too)."""
    tops = {parts[0].lower() for parts in parted if len(parts) > 1}
    return bool(tops) and tops <= SPLIT_OF.keys()


def _refuse_half_split(parted: list[list[str]], source: Source) -> None:
    """Refuse `train/cat/1.png` beside `dogs/1.png`: is `train` a split or a label?"""
    splits = sorted({parts[0] for parts in parted if len(parts) > 2 and parts[0].lower() in SPLIT_OF})
    if splits:
        others = sorted({parts[0] for parts in parted} - set(splits))
        raise InvalidData(
            f"Folders for splits ({listed(splits)}) stand beside others: {listed(others)}",
            where=source.given,
            allowed="train, validation and test only, or one folder a label only",
            mend="move the other folders away",
        )
