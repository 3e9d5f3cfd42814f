"""Blur images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.data.methods.method import ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image


class BlurParameters(MethodParameters):
    """Parameters of `Blur`."""

    radius_px: float = Field(
        default=1.0, gt=0, le=100, allow_inf_nan=False, description="Radius of the Gaussian, in pixels."
    )


class Blur(ImageMethod):
    """Gaussian blur."""

    name = "blur"
    Parameters = BlurParameters

    def apply(self, image: Image.Image, parameters: BlurParameters, state: State) -> Image.Image:
        from PIL import ImageFilter

        return image.filter(ImageFilter.GaussianBlur(parameters.radius_px))
