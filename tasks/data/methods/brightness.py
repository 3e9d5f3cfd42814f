"""Make images brighter or darker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.data.methods.method import ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image


class BrightnessParameters(MethodParameters):
    """Parameters of `Brightness`."""

    factor: float = Field(
        default=1.2,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="1 changes nothing, 0 is black, 2 doubles every value (up to white).",
    )


class Brightness(ImageMethod):
    """Multiply every value."""

    name = "brightness"
    Parameters = BrightnessParameters

    def apply(self, image: Image.Image, parameters: BrightnessParameters, state: State) -> Image.Image:
        from PIL import ImageEnhance

        return ImageEnhance.Brightness(image).enhance(parameters.factor)
