"""What files and texts are held to, and the boxes and maps that label them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tasks.data.config import ValidateConfig
from tasks.data.manifest import Manifest
from tasks.data.methods import menders
from tasks.data.methods.method import Fault
from tasks.data.validation.media_facts import (
    CHANNELS,
    DECODABLE,
    FLAT_OBJECTS,
    FRAMES,
    LENGTH,
    LONG_SIDE,
    MAP_DECODABLE,
    MAP_FITS,
    MODE,
    OUTSIDE_OBJECTS,
    OUTSIDE_PX,
    RATE,
    SHAPELESS_OBJECTS,
    SHORT_SIDE,
    UNKNOWN_OBJECTS,
    UNKNOWN_PIXELS,
)
from tasks.data.validation.rules import Rule, between, in_set
from tasks.refs import Problem


def media_rules(manifest: Manifest, config: ValidateConfig, steps: Collection[str]) -> Iterator[Rule]:
    """The rules for a version whose rows are files or texts.

    Args:
        manifest: The version.
        config: The limits.
        steps: Names of the preprocessing methods to come.
    """
    if manifest.problem.modality == "text":
        yield Rule(
            "texts present",
            "text",
            *between(LENGTH, low=1),
            "Every text has words",
            "are empty, or hold white space only",
            "fill them in, or remove these rows",
        )
        return
    what = manifest.problem.modality
    yield Rule(
        "decodable",
        what,
        *in_set(DECODABLE, [True]),
        "Every image can be decoded" if what == "image" else "Every sound can be decoded",
        "cannot be decoded",
        "replace or remove these files",
    )
    yield from _sounds(steps) if what == "audio" else _images(config, steps)
    if manifest.problem.has_objects:
        yield from _objects(manifest)
    elif manifest.problem is Problem.SEMANTIC_SEGMENTATION:
        yield from _maps(manifest)


def _images(config: ValidateConfig, steps: Collection[str]) -> Iterator[Rule]:
    low, high = config.min_image_side_px, config.max_image_side_px
    yield Rule(
        "image size",
        "image",
        *between(SHORT_SIDE, low=low),
        f"No side of an image is shorter than {low:,} pixels",
        f"have a side shorter than {low:,} pixels",
        "replace or remove these files",
    )
    yield Rule(
        "oversized images",
        "image",
        *between(LONG_SIDE, high=high),
        f"No side of an image is longer than {high:,} pixels",
        f"have a side longer than {high:,} pixels",
        f"shrink them with the preprocessing {menders('image size')[0]}, "
        "or ingest with a smaller max_image_side_px",
        mendable=True,
        mended=any(step in menders("image size") for step in steps),
    )
    yield Rule(
        "colour mode",
        "image",
        *in_set(MODE, ["L", "RGB"]),
        "Every image is 8-bit grey or RGB",
        "are neither 8-bit grey nor RGB",
        "ingest them again: ingest converts other modes",
    )


def _sounds(steps: Collection[str]) -> Iterator[Rule]:
    yield Rule(
        "sounds present",
        "audio",
        *between(FRAMES, low=1),
        "Every sound has samples",
        "are sounds without a sample",
        "replace or remove these files",
    )
    kinds: tuple[tuple[Fault, str, str], ...] = (
        ("sample rate", RATE, "sample rate"),
        ("channels", CHANNELS, "number of channels"),
    )
    for name, column, of_what in kinds:
        yield Rule(
            name,
            "audio",
            "expect_column_unique_value_count_to_be_between",
            {"column": column, "max_value": 1},
            f"Every sound has the same {of_what}",
            f"The {of_what} differs between sounds",
            f"make them alike with the preprocessing {menders(name)[0]}",
            scope="sounds",
            warns=True,
            mendable=True,
            mended=any(step in menders(name) for step in steps),
            counted="column",
        )


def _objects(manifest: Manifest) -> Iterator[Rule]:
    found = [
        (
            "boxes inside",
            OUTSIDE_OBJECTS,
            "Every box is inside its image",
            f"have a box or outline that reaches over the image's edge by more than {OUTSIDE_PX:g} pixel",
            "correct these boxes (x, y, width, height in pixels from the top left corner)",
        ),
        (
            "boxes with area",
            FLAT_OBJECTS,
            "Every box has a width and a height",
            "have a box without width or height",
            "remove these boxes, or draw them again",
        ),
        (
            "known labels",
            UNKNOWN_OBJECTS,
            "Every object is of a known class",
            "have an object that is of no class",
            "correct the category ids, or add the category",
        ),
    ]
    if manifest.problem is Problem.INSTANCE_SEGMENTATION:
        found.append(
            (
                "outlines",
                SHAPELESS_OBJECTS,
                "Every object has an outline",
                "have an object without a polygon of three corners or a mask",
                "draw the outlines, or choose object-detection, which needs boxes only",
            )
        )
    for name, column, good, bad, mend in found:
        yield Rule(name, manifest.label, *in_set(column, [0]), good, bad, mend)


def _maps(manifest: Manifest) -> Iterator[Rule]:
    last = len(manifest.classes) - 1
    for name, (column, good_value), good, bad, mend in (
        (
            "maps decodable",
            (MAP_DECODABLE, True),
            "Every segmentation map can be decoded",
            "have a segmentation map that cannot be decoded",
            "replace these maps",
        ),
        (
            "map sizes",
            (MAP_FITS, True),
            "Every segmentation map has the size of its image",
            "have a segmentation map of another size than the image",
            "make the maps again at the size of the images",
        ),
        (
            "map values",
            (UNKNOWN_PIXELS, 0),
            "Every pixel of the segmentation maps is of a known class",
            f"have pixels of no class in their segmentation map (classes are 0 to {last})",
            "name these values in id2label.json, or correct the maps",
        ),
    ):
        yield Rule(name, manifest.label, *in_set(column, [good_value]), good, bad, mend)
