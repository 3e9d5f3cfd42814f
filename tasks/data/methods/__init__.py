"""Preprocessing methods, one a file. A new one is a module here and a line in `_ALL`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from tasks.data.methods.blur import Blur
from tasks.data.methods.brightness import Brightness
from tasks.data.methods.centre_crop import CentreCrop
from tasks.data.methods.colour_mode import ColourMode
from tasks.data.methods.drop_columns import DropColumns
from tasks.data.methods.encode import Encode
from tasks.data.methods.flip import Flip
from tasks.data.methods.greyscale import Greyscale
from tasks.data.methods.impute import Impute
from tasks.data.methods.method import ImageMethod, Method, TableMethod
from tasks.data.methods.resize import Resize
from tasks.data.methods.rotate import Rotate
from tasks.data.methods.scale import Scale

_ALL: tuple[Method, ...] = (
    ColourMode(),
    Resize(),
    CentreCrop(),
    Greyscale(),
    Flip(),
    Rotate(),
    Blur(),
    Brightness(),
    Impute(),
    Scale(),
    Encode(),
    DropColumns(),
)


METHODS: dict[str, Method] = {method.name: method for method in _ALL}

if TYPE_CHECKING:
    PreprocessingMethod = StrEnum
else:
    PreprocessingMethod = StrEnum(
        "PreprocessingMethod", {name.replace("-", "_").upper(): name for name in METHODS}, module=__name__
    )
    """The names of the methods, for forms."""

__all__ = ["METHODS", "ImageMethod", "Method", "PreprocessingMethod", "TableMethod"]
