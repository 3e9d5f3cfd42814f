"""Rows that a saved model is tried on, and what its outputs for them say about how they are to be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tasks.errors import InvalidData, TrainyardError
from tasks.refs import Problem
from tasks.train.model_inputs import ShapesImages, ShapesTables, stack_images, stack_table
from tasks.train.models.own_scores import Kind, Scores
from tasks.train.models.pixel_input import PixelInput, from_processor
from tasks.train.own_code.config import ImageInput
from tasks.train.own_code.saved_model import NotServed, first_line

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from PIL import Image

    from tasks.train.algorithms.fit import FittedModel

PROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class Trial:
    """Rows that a model is tried on, as the dataset version has them.

    Attributes:
        problem: What is to be predicted.
        classes: The dataset's class names, in the order of the labels; empty for regression.
        orders: Orders in which a script may have numbered the classes, the likeliest first: each a tuple
            of the dataset's classes by the script's number.
        images: Preprocessed pictures; None for tables.
        table: Preprocessed rows; None for images.
        labels: int64 `[n]` in the dataset's numbers, or float64 `[n]`.
        image_input: How pixels become numbers where the model does not say it.
    """

    problem: Problem
    classes: tuple[str, ...]
    orders: tuple[tuple[int, ...], ...]
    images: list[Image.Image] | None
    table: pd.DataFrame | None
    labels: NDArray[Any]
    image_input: ImageInput


@dataclass(frozen=True)
class Adopted:
    """A model that was understood.

    Attributes:
        model: It.
        inputs: The columns that it takes, in order; none for images.
    """

    model: FittedModel
    inputs: tuple[str, ...]


def told_by_values(raw: NDArray[Any]) -> Kind:
    """Probabilities lie between 0 and 1, those of a row add up to 1; other numbers are logits."""
    rows = np.asarray(raw, dtype=np.float64).reshape(len(raw), -1)
    within = bool((rows >= -1e-6).all() and (rows <= 1 + 1e-6).all())
    if rows.shape[1] == 1:
        return "positive" if within else "positive logit"
    return "probabilities" if within and np.allclose(rows.sum(axis=1), 1, atol=1e-3) else "logits"


def known_channels(number: Any) -> Literal[0, 1, 3]:
    """How many colour channels pictures are given with; 0 where that is none of their numbers."""
    return number if number in (1, 3) else 0


def size_steps(height: int, width: int) -> dict[str, int]:
    """The settings of `PixelInput` for a size, where both sides are known."""
    return {"height": height, "width": width} if height and width else {}


def pixels_of(folder: Path, trial: Trial, channels: Literal[0, 1, 3]) -> PixelInput:
    """As the image processor beside the model says, or else as the settings do."""
    path = folder / PROCESSOR_FILE
    if path.is_file():
        try:
            return from_processor(json.loads(path.read_text()), channels)
        except (ValueError, TypeError, KeyError) as error:
            raise NotServed(f"{PROCESSOR_FILE} cannot be read: {first_line(error)}") from error
    given = trial.image_input
    return PixelInput(channels=channels, scale=given.scale, mean=given.mean, std=given.std)


def guessed_pixels(folder: Path, model: Any, images: list[Image.Image] | None) -> str:
    """What pixels a model of images is fed, in words, where no file beside it says so; else empty."""
    pixels = getattr(model, "pixels", None)
    if not isinstance(pixels, PixelInput) or not images or (folder / PROCESSOR_FILE).is_file():
        return ""
    width, height = (pixels.width, pixels.height) if pixels.height else images[0].size
    scale = f"1/{1 / pixels.scale:g}" if 0 < pixels.scale < 1 else f"{pixels.scale:g}"
    normal = f", less {pixels.mean}, divided by {pixels.std}" if pixels.mean or pixels.std else ""
    return f"no {PROCESSOR_FILE}: the model is fed {width}×{height} pixels, times {scale}{normal}"


def all_columns(trial: Trial, wanted: int) -> tuple[str, ...]:
    """The columns of the data, for a model that does not name its own.

    Raises:
        NotServed: The model takes another number of them.
    """
    assert trial.table is not None
    columns = tuple(map(str, trial.table.columns))
    if wanted and len(columns) != wanted:
        raise NotServed(
            f"it takes {wanted} columns, the data has {len(columns)} ({', '.join(columns[:10])}); "
            "give all of them to the model, or keep the columns' names with it"
        )
    return columns


def inputs_of(model: Any, trial: Trial, columns: tuple[str, ...]) -> Any:
    """The trial's rows as the model takes them."""
    if trial.images is not None:
        own = isinstance(model, ShapesImages)
        return model.stack_images(trial.images) if own else stack_images(trial.images)
    assert trial.table is not None
    own = isinstance(model, ShapesTables)
    return model.stack_table(trial.table, columns) if own else stack_table(trial.table, columns)


def tried(ask: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The outputs for the trial's rows.

    Raises:
        NotServed: The model fails on them, or gives no finite numbers.
    """
    try:
        raw = np.asarray(ask())
    except TrainyardError:
        raise
    except Exception as error:  # whatever the library behind the model raises
        raise NotServed(f"it fails on rows of the dataset: {first_line(error)}") from error
    if raw.dtype.kind in "fiu" and not np.isfinite(np.asarray(raw, dtype=np.float64)).all():
        raise InvalidData("the model gives NaN or infinity for rows of the dataset")
    return raw


def scores_of(raw: NDArray[Any], kind: Kind, own: tuple[str, ...], trial: Trial) -> Scores:
    """How the outputs are read: whose class each is.

    Args:
        raw: Outputs for the trial's rows.
        kind: What they are.
        own: Class names that the model itself says, by output; none if it says nothing.
        trial: The rows with their labels.
    """
    rows = len(trial.labels)
    if not trial.classes:
        if np.size(raw) != rows:
            raise NotServed(f"it gives {np.size(raw) // max(rows, 1)} numbers a row; regression takes one")
        return Scores(kind="values")
    count = len(trial.classes)
    if kind == "labels":
        outputs = count
    else:
        outputs = 2 if kind.startswith("positive") else int(np.size(raw) // max(rows, 1))
    places = _places(own, outputs, trial.classes)
    if places is None:
        if outputs != count:
            raise NotServed(
                f"it gives {outputs} numbers a row, the dataset has {count} classes "
                f"({', '.join(trial.classes[:10])})"
            )
        # Nothing says which output is which class: of the usual orders, the one that is right most often.
        ways = [Scores(kind=kind, places=order, classes=count) for order in trial.orders]
        right = [float((way.of(raw).argmax(axis=1) == trial.labels).mean()) for way in ways]
        return ways[int(np.argmax(right))]
    return Scores(kind=kind, places=places, classes=count)


def _places(own: tuple[str, ...], outputs: int, classes: tuple[str, ...]) -> tuple[int, ...] | None:
    """The dataset's class of each output by its name or number; None where the model does not say."""
    if not own:
        return None
    if len(own) != outputs:
        raise NotServed(f"it names {len(own)} classes and gives {outputs} numbers a row")
    place = {name: index for index, name in enumerate(classes)}
    if all(name in place for name in own):
        return tuple(place[name] for name in own)
    numbers = [int(name) for name in own if name.isdecimal()]
    if len(numbers) == len(own) and max(numbers) < len(classes):
        return None if len(own) == len(classes) else tuple(numbers)
    unknown = [name for name in own if name not in place]
    raise NotServed(
        f"it names classes that the dataset does not have: {', '.join(unknown[:5])}; "
        f"the dataset's are {', '.join(classes[:10])}"
    )
