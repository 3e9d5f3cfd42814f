"""The interface of preprocessing methods.

A method has parameters (chosen by the user), a state (learned from the training rows, plain JSON) and
a function that applies both to a batch. The same function runs on Dask workers while a version is made
and in the endpoint, so it must give every row the same result whatever rows stand beside it.

A method learns by questions: `learn` asks, workers answer with `summarise` for a batch of training rows
each, and what they send is small however many rows there are. What comes of it must not depend on how
the rows were cut into batches.

Method modules import Pillow, numpy and pandas where they use them: this package is imported to list
flows and to check parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from tasks.errors import InvalidData
from tasks.refs import Modality

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL import Image

    from tasks.data.formats.audio import Sound
    from tasks.data.formats.images import Header

State = dict[str, Any]

Fault = Literal["gaps", "columns", "copies", "image size", "sample rate", "channels"]
"""What validation finds in data that a method may mend: gaps in columns; columns that are of no use, of which
a method names those that it takes away in its parameter `columns`; equal rows; images that are too large;
sounds of several rates, or numbers of channels."""

Ask = Callable[[Any], Iterator[Any]]
"""Puts one question to all batches of training rows; their answers come one after the other."""


class MethodParameters(BaseModel):
    """Base of the parameters of a method."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Geometry:
    """An affine map of an image's plane.

    Attributes:
        matrix: float64 [2, 3]: a point (x, y) in pixels, origin at the top left corner of the image,
            goes to matrix @ (x, y, 1).
        size: (width, height) of the result, in pixels.
    """

    matrix: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True)
class Batch:
    """Training rows, as the steps before leave them.

    Attributes:
        rows: A frame of features; or images, texts or sounds one after the other.
        labels: float64 [rows]: index of the class, or the number to predict; None for other labels.
        classes: Names of the classes; none for regression.
    """

    rows: Any
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()


class Method(ABC):
    """What the methods of all modalities share."""

    name: ClassVar[str]
    applies_to: ClassVar[Modality]
    Parameters: ClassVar[type[MethodParameters]]
    mends: ClassVar[Fault | None] = None
    """What validation lets through where this method comes next; `None` where that is nothing."""
    leaves_out: ClassVar[str] = ""
    """The reason that is counted for rows that do not come through; empty where all do."""


class Learning(ABC):
    """What a method adds that learns from the training rows; the state of the others is empty."""

    @abstractmethod
    def summarise(self, question: Any, batch: Batch, parameters: Any) -> Any:
        """The answer of one batch of training rows to what `learn` asks; runs on workers."""

    @abstractmethod
    def learn(self, ask: Ask, like: Batch, parameters: Any) -> State:
        """The state, from the answers of all batches; `like` is one without rows, to see the columns."""


class ImageMethod(Method):
    """A method on images."""

    applies_to: ClassVar[Modality] = "image"
    sets_mode: ClassVar[bool] = False
    sets_size: ClassVar[bool] = False

    @abstractmethod
    def apply(self, image: Image.Image, parameters: Any, state: State) -> Image.Image:
        """One image, mode L or RGB, to another of mode L or RGB."""

    def keeps(self, header: Header, parameters: Any, state: State) -> bool:
        """Whether an image with this header comes out exactly as it goes in."""
        return False

    def geometry(self, size: tuple[int, int], parameters: Any) -> Geometry | None:
        """Where pixels of an image of this (width, height) go; None if they stay where they are.

        Boxes, polygons and segmentation maps follow their image by it.
        """
        return None


class TextMethod(Method):
    """A method on texts. With `leaves_out`, only the first of rows that are equal by then goes on."""

    applies_to: ClassVar[Modality] = "text"

    @abstractmethod
    def apply(self, text: str, parameters: Any, state: State) -> str:
        """One text to another."""


class AudioMethod(Method):
    """A method on sounds."""

    applies_to: ClassVar[Modality] = "audio"
    sets_channels: ClassVar[bool] = False
    sets_rate: ClassVar[bool] = False

    @abstractmethod
    def apply(self, sound: Sound, parameters: Any, state: State) -> Sound:
        """One sound to another."""


class TableMethod(Method):
    """A method on tables: numeric columns are float64, categorical ones strings, NaN is missing."""

    applies_to: ClassVar[Modality] = "table"

    @abstractmethod
    def apply(self, frame: pd.DataFrame, parameters: Any, state: State) -> pd.DataFrame:
        """A frame of feature columns to another with the same rows and index; the input stays as it is."""

    def left_out(
        self, frame: pd.DataFrame, parameters: Any, state: State, *, training: bool
    ) -> np.ndarray | None:
        """Which rows do not come into a version: bool [rows], or None for none of them.

        Asked while a version is made, before `apply`; a request is never robbed of a row.
        """
        return None


def is_numeric(series: pd.Series) -> bool:
    """Whether a column of a frame is a numeric feature (the alternative is categorical)."""
    return series.dtype.kind == "f"


def place_of(frame: pd.DataFrame, row: int) -> str:
    """What to call a row in a message: its id where the frame has ids for index, else its number."""
    if frame.index.dtype.kind in "iu":
        return f"row {row + 1} of {len(frame)}"
    return str(frame.index[row])


def replaced(frame: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """The frame with other values in some columns (`assign` fails on a column named self)."""
    result = frame.copy(deep=False)
    for name, values in columns.items():
        result[name] = values
    return result


def chosen(
    frame: pd.DataFrame, columns: Sequence[str], method: str, numeric: bool | None = None
) -> list[str]:
    """The columns that a method is to work on, in the order of the frame.

    Args:
        frame: The features.
        columns: Names that were given; empty takes all of the right type.
        method: Its name, for messages.
        numeric: The right type: True, False for categorical, None for both.

    Raises:
        InvalidData: A named column is not there, or not of that type.
    """
    fitting = [
        str(column) for column in frame.columns if numeric is None or is_numeric(frame[column]) == numeric
    ]
    if not columns:
        return fitting
    wrong = [column for column in columns if column not in fitting]
    if wrong:
        kind = {True: "numeric column", False: "categorical column", None: "column"}[numeric]
        raise InvalidData(
            f"There is no {kind} {', '.join(wrong)} for the method {method}",
            where="preprocess.steps",
            allowed=", ".join(fitting) or f"there is no {kind} at this step",
            mend=f"correct the columns of {method}, or the order of the steps",
        )
    return [column for column in fitting if column in set(columns)]
