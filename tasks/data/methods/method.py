"""The interface of preprocessing methods.

A method has parameters (chosen by the user), a state (learned from the training rows, plain JSON) and
a function that applies both to a batch. The same function runs on Dask workers while a version is made
and in the endpoint, so it must give every row the same result whatever rows stand beside it.

Method modules import Pillow, numpy and pandas where they use them: this package is imported to list
flows and to check parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from tasks.data.images import Header

State = dict[str, Any]


class MethodParameters(BaseModel):
    """Base of the parameters of a method."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Method:
    """What image and table methods share."""

    name: ClassVar[str]
    applies_to: ClassVar[Literal["image", "table"]]
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

    applies_to: ClassVar[Literal["image", "table"]] = "image"
    sets_mode: ClassVar[bool] = False
    sets_size: ClassVar[bool] = False

    def apply(self, image: Image.Image, parameters: Any, state: State) -> Image.Image:
        """One image, mode L or RGB, to another of mode L or RGB."""
        raise NotImplementedError

    def keeps(self, header: Header, parameters: Any, state: State) -> bool:
        """Whether an image with this header comes out exactly as it goes in."""
        return False


class TableMethod(Method):
    """A method on tables: numeric columns are float64, categorical ones strings, NaN is missing."""

    applies_to: ClassVar[Literal["image", "table"]] = "table"

    def apply(self, frame: pd.DataFrame, parameters: Any, state: State) -> pd.DataFrame:
        """A frame of feature columns to another with the same rows and index; the input stays as it is."""
        raise NotImplementedError


def is_numeric(series: pd.Series) -> bool:
    """Whether a column of a frame is a numeric feature (the alternative is categorical)."""
    return series.dtype.kind == "f"
