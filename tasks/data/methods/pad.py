"""Add a margin around images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.data.methods.method import Geometry, ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image

    from tasks.data.formats.images import Header


class PadParameters(MethodParameters):
    """Parameters of `Pad`."""

    to: Literal["square", "size"] = Field(
        default="square",
        description="Square: as wide and as high as the long side. Size: at least width and height.",
    )
    width_px: int = Field(default=28, ge=1, le=4096, description="Least width for size, in pixels.")
    height_px: int = Field(default=28, ge=1, le=4096, description="Least height for size, in pixels.")
    fill: int = Field(default=0, ge=0, le=255, description="Grey value of the margin: 0 black, 255 white.")


class Pad(ImageMethod):
    """The image stays in the middle, unscaled; larger ones stay as they are."""

    name = "pad"
    Parameters = PadParameters

    def apply(self, image: Image.Image, parameters: PadParameters, state: State) -> Image.Image:
        from PIL import Image

        size = _padded(image.size, parameters)
        if size == image.size:
            return image
        ground = Image.new(image.mode, size, (parameters.fill,) * len(image.getbands()))
        ground.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
        return ground

    def keeps(self, header: Header, parameters: PadParameters, state: State) -> bool:
        size = (header.width_px, header.height_px)
        return _padded(size, parameters) == size

    def geometry(self, size: tuple[int, int], parameters: PadParameters) -> Geometry:
        import numpy as np

        result = _padded(size, parameters)
        left, top = ((new - old) // 2 for new, old in zip(result, size, strict=True))
        return Geometry(np.array([[1, 0, left], [0, 1, top]], np.float64), result)


def _padded(size: tuple[int, int], parameters: PadParameters) -> tuple[int, int]:
    if parameters.to == "square":
        return max(size), max(size)
    return max(size[0], parameters.width_px), max(size[1], parameters.height_px)
