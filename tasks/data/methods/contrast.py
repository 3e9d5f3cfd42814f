"""Raise or lower the contrast of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.data.methods.method import ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image


class ContrastParameters(MethodParameters):
    """Parameters of `Contrast`."""

    factor: float = Field(
        default=1.2,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="1 changes nothing, 0 is the image's mean grey everywhere, 2 doubles all distances.",
    )


class Contrast(ImageMethod):
    """Move every value away from the image's mean grey, or towards it."""

    name = "contrast"
    Parameters = ContrastParameters

    def apply(self, image: Image.Image, parameters: ContrastParameters, state: State) -> Image.Image:
        from PIL import ImageEnhance

        return ImageEnhance.Contrast(image).enhance(parameters.factor)
