"""The interface of preprocessing methods.

A method has parameters (chosen by the user), a state (learned from the training rows, plain JSON) and
a function that applies both to a batch. The same function runs on Dask workers while a version is made
and in the endpoint, so it must give every row the same result whatever rows stand beside it.

Method modules import Pillow, numpy and pandas where they use them: this package is imported to list
flows and to check parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from tasks.refs import Modality

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL import Image

    from tasks.data.images import Header

State = dict[str, Any]


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
class Sound:
    """Samples of a sound.

    Attributes:
        samples: float32 [frames, channels], -1 to 1.
        rate_hz: Frames a second.
    """

    samples: np.ndarray
    rate_hz: int


class Method:
    """What the methods of all modalities share."""

    name: ClassVar[str]
    applies_to: ClassVar[Modality]
    Parameters: ClassVar[type[MethodParameters]]
    learns: ClassVar[bool] = False
    mends_missing_values: ClassVar[bool] = False

    def summarise(self, batch: Any, parameters: Any) -> Any:
        """What a batch of training rows contributes to the state; runs on workers."""
        raise NotImplementedError(f"{self.name} learns nothing")

    def learn(self, summaries: Sequence[Any], parameters: Any) -> State:
        """The state from all summaries; must not depend on how rows were cut into batches."""
        raise NotImplementedError(f"{self.name} learns nothing")


class ImageMethod(Method):
    """A method on images."""

    applies_to: ClassVar[Modality] = "image"
    sets_mode: ClassVar[bool] = False
    sets_size: ClassVar[bool] = False

    def apply(self, image: Image.Image, parameters: Any, state: State) -> Image.Image:
        """One image, mode L or RGB, to another of mode L or RGB."""
        raise NotImplementedError

    def keeps(self, header: Header, parameters: Any, state: State) -> bool:
        """Whether an image with this header comes out exactly as it goes in."""
        return False

    def geometry(self, size: tuple[int, int], parameters: Any) -> Geometry | None:
        """Where pixels of an image of this (width, height) go; None if they stay where they are.

        Boxes, polygons and segmentation maps follow their image by it.
        """
        return None


class TextMethod(Method):
    """A method on texts."""

    applies_to: ClassVar[Modality] = "text"

    def apply(self, text: str, parameters: Any, state: State) -> str:
        """One text to another."""
        raise NotImplementedError


class AudioMethod(Method):
    """A method on sounds."""

    applies_to: ClassVar[Modality] = "audio"

    def apply(self, sound: Sound, parameters: Any, state: State) -> Sound:
        """One sound to another."""
        raise NotImplementedError


class TableMethod(Method):
    """A method on tables: numeric columns are float64, categorical ones strings, NaN is missing."""

    applies_to: ClassVar[Modality] = "table"

    def apply(self, frame: pd.DataFrame, parameters: Any, state: State) -> pd.DataFrame:
        """A frame of feature columns to another with the same rows and index; the input stays as it is."""
        raise NotImplementedError


def is_numeric(series: pd.Series) -> bool:
    """Whether a column of a frame is a numeric feature (the alternative is categorical)."""
    return series.dtype.kind == "f"
