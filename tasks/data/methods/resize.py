"""Bring images to one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.data.methods.method import Geometry, ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image

    from tasks.data.formats.images import Header


class ResizeParameters(MethodParameters):
    """Parameters of `Resize`."""

    width_px: int = Field(default=28, ge=1, le=4096, description="Width of the result, in pixels.")
    height_px: int = Field(default=28, ge=1, le=4096, description="Height of the result, in pixels.")
    filter: Literal["nearest", "bilinear", "bicubic", "lanczos"] = Field(
        default="bilinear", description="How pixels between pixels are computed."
    )


class Resize(ImageMethod):
    """Scale to a width and height, whatever the proportions were."""

    name = "resize"
    Parameters = ResizeParameters
    sets_size = True
    mends = "image size"

    def apply(self, image: Image.Image, parameters: ResizeParameters, state: State) -> Image.Image:
        from PIL import Image

        size = (parameters.width_px, parameters.height_px)
        if image.size == size:
            return image
        return image.resize(size, Image.Resampling[parameters.filter.upper()])

    def keeps(self, header: Header, parameters: ResizeParameters, state: State) -> bool:
        return (header.width_px, header.height_px) == (parameters.width_px, parameters.height_px)

    def geometry(self, size: tuple[int, int], parameters: ResizeParameters) -> Geometry:
        import numpy as np

        result = (parameters.width_px, parameters.height_px)
        across, down = (new / old for new, old in zip(result, size, strict=True))
        return Geometry(np.array([[across, 0, 0], [0, down, 0]], np.float64), result)
