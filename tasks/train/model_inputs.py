"""Preprocessed rows as the one array that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from tasks.errors import InvalidRequest

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from PIL import Image


@runtime_checkable
class ShapesImages(Protocol):
    """A model that makes its own inputs of preprocessed pictures: what own code may have saved."""

    def stack_images(self, images: Sequence[Image.Image]) -> Any:
        """What `predict` takes."""
        ...


@runtime_checkable
class ShapesTables(Protocol):
    """A model that makes its own inputs of preprocessed table rows."""

    def stack_table(self, table: pd.DataFrame, inputs: Sequence[str]) -> Any:
        """What `predict` takes."""
        ...


def stack_images(images: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """Preprocessed pictures as one array, uint8 `[n, height, width, channels]`.

    Raises:
        InvalidRequest: The pictures differ in size or mode after preprocessing.
    """
    shapes = {(image.size, image.mode) for image in images}
    if len(shapes) > 1:
        raise InvalidRequest(
            "the images differ in size or mode after preprocessing",
            where=", ".join(f"{w} x {h} {mode}" for (w, h), mode in sorted(shapes)),
            allowed="one size and mode",
            mend="preprocess the dataset with a resize step",
        )
    stacked = np.stack([np.asarray(image, dtype=np.uint8) for image in images])
    return stacked if stacked.ndim == 4 else stacked[..., np.newaxis]


def stack_table(table: pd.DataFrame, inputs: Sequence[str]) -> NDArray[np.float64]:
    """Preprocessed rows as one array, float64 `[n, inputs]`.

    Raises:
        InvalidRequest: A column is missing, holds text, or holds an empty or infinite value.
    """
    missing = [name for name in inputs if name not in table.columns]
    if missing:
        raise InvalidRequest(f"the rows lack {', '.join(missing)}", where="columns after preprocessing")
    columns = []
    for name in inputs:
        try:
            column = table[name].to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise InvalidRequest(
                "the column holds text where numbers are needed",
                where=f"column {name}",
                allowed="numbers",
                mend="give numbers, or preprocess the dataset with an encode step",
            ) from error
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            raise InvalidRequest(
                "a value is empty or not finite",
                where=f"column {name}, row {table.index[bad[0]]}",
                allowed="finite numbers",
                mend="fill the value, or preprocess the dataset with an impute step",
            )
        columns.append(column)
    return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))
