"""Preprocessing methods, one a file. A new one is a module here and a line in `_ALL`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from tasks.data.methods.blur import Blur
from tasks.data.methods.brightness import Brightness
from tasks.data.methods.centre_crop import CentreCrop
from tasks.data.methods.colour_mode import ColourMode
from tasks.data.methods.contrast import Contrast
from tasks.data.methods.date_parts import DateParts
from tasks.data.methods.deduplicate import Deduplicate
from tasks.data.methods.drop_columns import DropColumns
from tasks.data.methods.encode import Encode
from tasks.data.methods.equalise import Equalise
from tasks.data.methods.flip import Flip
from tasks.data.methods.greyscale import Greyscale
from tasks.data.methods.impute import Impute
from tasks.data.methods.invert import Invert
from tasks.data.methods.log import Log
from tasks.data.methods.lower_case import LowerCase
from tasks.data.methods.method import (
    AudioMethod,
    Fault,
    ImageMethod,
    Learning,
    Method,
    TableMethod,
    TextMethod,
)
from tasks.data.methods.mono import Mono
from tasks.data.methods.normalise import Normalise
from tasks.data.methods.outliers import Outliers
from tasks.data.methods.pad import Pad
from tasks.data.methods.rename_columns import RenameColumns
from tasks.data.methods.resample import Resample
from tasks.data.methods.resize import Resize
from tasks.data.methods.rotate import Rotate
from tasks.data.methods.scale import Scale
from tasks.data.methods.sharpen import Sharpen
from tasks.data.methods.strip import Strip
from tasks.data.methods.trim import Trim

_ALL: tuple[Method, ...] = (
    ColourMode(),
    Resize(),
    Pad(),
    CentreCrop(),
    Greyscale(),
    Flip(),
    Rotate(),
    Blur(),
    Sharpen(),
    Brightness(),
    Contrast(),
    Equalise(),
    Normalise(),
    Invert(),
    Impute(),
    Scale(),
    Encode(),
    Outliers(),
    DropColumns(),
    RenameColumns(),
    Log(),
    DateParts(),
    LowerCase(),
    Strip(),
    Deduplicate(),
    Resample(),
    Trim(),
    Mono(),
)

METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def menders(fault: Fault) -> list[str]:
    """Names of the methods that mend what validation finds, the usual one first."""
    return [name for name, method in METHODS.items() if method.mends == fault]


if TYPE_CHECKING:
    PreprocessingMethod = StrEnum
else:
    PreprocessingMethod = StrEnum(
        "PreprocessingMethod", {name.replace("-", "_").upper(): name for name in METHODS}, module=__name__
    )
    """The names of the methods, for forms."""

__all__ = [
    "METHODS",
    "AudioMethod",
    "ImageMethod",
    "Learning",
    "Method",
    "PreprocessingMethod",
    "TableMethod",
    "TextMethod",
    "menders",
]
