"""Sharpen images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.data.methods.method import ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image


class SharpenParameters(MethodParameters):
    """Parameters of `Sharpen`."""

    radius_px: float = Field(
        default=2.0, gt=0, le=100, allow_inf_nan=False, description="Width of the edges, in pixels."
    )
    percent: int = Field(default=150, ge=0, le=1000, description="Strength; 0 changes nothing.")
    threshold: int = Field(
        default=3, ge=0, le=255, description="Smallest difference of brightness that is an edge, 0 to 255."
    )


class Sharpen(ImageMethod):
    """Unsharp masking."""

    name = "sharpen"
    Parameters = SharpenParameters

    def apply(self, image: Image.Image, parameters: SharpenParameters, state: State) -> Image.Image:
        from PIL import ImageFilter

        return image.filter(
            ImageFilter.UnsharpMask(parameters.radius_px, parameters.percent, parameters.threshold)
        )
