"""Fitted preprocessing: what travels with a model and runs on every request.

`preprocess` applies the steps through the same functions on Dask workers, so a row is treated alike
before training and at an endpoint. Needs Pillow for images and pandas for tables, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict

from tasks.data.manifest import Feature, FittedStep
from tasks.data.methods import METHODS, AudioMethod, ImageMethod, TableMethod, TextMethod
from tasks.errors import InvalidData
from tasks.refs import NOUNS, Problem

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from tasks.data.formats.audio import Sound

Value = TypeVar("Value")
Kind = TypeVar("Kind", ImageMethod, TextMethod, AudioMethod, TableMethod)
BoundStep = tuple[Kind, Any, dict[str, Any]]
"""A method, its parameters and its state."""


class Preprocessing(BaseModel):
    """Steps from raw rows to the rows that a model is given.

    Args:
        problem: The problem that the model solves.
        features: The raw features, in the order of the ingested version.
        steps: Methods with their parameters and state, in order.
        max_image_side_px: The long side to which images were shrunk when they came in, so that a
            client's original is treated as the stored copy was; None for tables.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: Problem
    features: tuple[Feature, ...]
    steps: tuple[FittedStep, ...] = ()
    max_image_side_px: int | None = None

    def images(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Images as they were decoded (any size and mode) to those that the model is given.

        Raises:
            OSError, ValueError, SyntaxError: An image is damaged.
        """
        from tasks.data.formats.images import plain, shrunk

        results = []
        for image in images:
            image = plain(image)
            if self.max_image_side_px is not None:
                image = shrunk(image, self.max_image_side_px)
            results.append(applied(image, self._image_steps))
        return results

    def texts(self, texts: Sequence[str]) -> list[str]:
        """Texts as they came to those that the model is given."""
        return [applied(text, self._text_steps) for text in texts]

    def sounds(self, sounds: Sequence[Sound]) -> list[Sound]:
        """Sounds as they were decoded to those that the model is given, as 16 bits hold them."""
        from tasks.data.formats.audio import rounded

        return [rounded(applied(sound, self._audio_steps)) for sound in sounds]

    def table(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A frame with the raw feature columns, in any order, to the model's columns (float64).

        The rows and the index stay as they are; other columns are left out.

        Raises:
            InvalidData: A column is missing, or holds what is not a number where numbers belong; a value
                is missing where training did without such rows.
        """
        return applied(typed(frame, self.features), self._table_steps)

    @cached_property
    def _image_steps(self) -> list[BoundStep[ImageMethod]]:
        return bound_steps(self.steps, ImageMethod)

    @cached_property
    def _text_steps(self) -> list[BoundStep[TextMethod]]:
        return bound_steps(self.steps, TextMethod)

    @cached_property
    def _audio_steps(self) -> list[BoundStep[AudioMethod]]:
        return bound_steps(self.steps, AudioMethod)

    @cached_property
    def _table_steps(self) -> list[BoundStep[TableMethod]]:
        return bound_steps(self.steps, TableMethod)

    def to_json(self) -> str:
        """As one JSON document."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Preprocessing:
        """From what `to_json` returned."""
        return cls.model_validate_json(text)


def bound_steps(steps: Sequence[FittedStep], kind: type[Kind]) -> list[BoundStep[Kind]]:
    """Methods of one kind with their parameters as models and their state.

    Raises:
        InvalidData: A step is not of this kind, or of none that this version knows.
    """
    bound: list[BoundStep[Kind]] = []
    for step in steps:
        method = METHODS.get(step.method)
        if not isinstance(method, kind):
            raise InvalidData(
                f"The preprocessing step {step.method!r} is not a method for {NOUNS[kind.applies_to]} "
                "of this version",
                allowed=", ".join(name for name, one in METHODS.items() if isinstance(one, kind)),
            )
        bound.append((method, method.Parameters.model_validate(step.parameters), step.state))
    return bound


def applied(value: Value, steps: Sequence[BoundStep[Any]]) -> Value:
    """An image, text, sound or frame of features after the steps."""
    for method, parameters, state in steps:
        value = method.apply(value, parameters, state)
    return value


def typed(frame: pd.DataFrame, features: Sequence[Feature]) -> pd.DataFrame:
    """The feature columns in order: numeric as float64, categorical as strings, NaN for missing.

    Raises:
        InvalidData: A column is missing, or holds what is not a number where numbers belong.
    """
    import pandas as pd

    missing = [feature.name for feature in features if feature.name not in frame.columns]
    if missing:
        raise InvalidData(
            f"The table has no column {', '.join(missing)}",
            where=f"columns {', '.join(str(column) for column in frame.columns)}",
            allowed=", ".join(feature.name for feature in features),
        )
    return pd.DataFrame(
        {
            feature.name: numbers(frame[feature.name])
            if feature.type == "numeric"
            else words(frame[feature.name])
            for feature in features
        },
        index=frame.index,
    )


def numbers(series: pd.Series) -> pd.Series:
    """A column as float64, NaN for missing.

    Raises:
        InvalidData: A value is not a finite number.
    """
    import numpy as np
    import pandas as pd

    if series.dtype.kind in "fiu":
        values = series if series.dtype == np.float64 else series.astype(np.float64)
        wrong = np.isinf(values.to_numpy())
    else:
        values = pd.to_numeric(series, errors="coerce").astype(np.float64)
        wrong = ((values.isna() & series.notna()) | np.isinf(values)).to_numpy()
    if wrong.any():
        place = int(wrong.argmax())
        raise InvalidData(
            f"The column {series.name} holds {series.iloc[place]!r}, which is not a finite number",
            where=f"row {place + 1} of {len(series)}",
            allowed="numbers, or nothing where the value is missing",
        )
    return values


def words(series: pd.Series) -> pd.Series:
    """A column as strings, NaN for missing; whole numbers lose their `.0`."""
    import pandas as pd

    if series.dtype == "str":
        return series
    texts = [None if pd.isna(value) else _word(value) for value in series]
    return pd.Series(texts, index=series.index, name=series.name, dtype="str")


def _word(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
