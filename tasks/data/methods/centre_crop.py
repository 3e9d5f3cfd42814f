"""Cut out the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.data.methods.method import Geometry, ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image

    from tasks.data.formats.images import Header


class CentreCropParameters(MethodParameters):
    """Parameters of `CentreCrop`."""

    width_px: int = Field(default=28, ge=1, le=4096, description="Width of the result, in pixels.")
    height_px: int = Field(default=28, ge=1, le=4096, description="Height of the result, in pixels.")


class CentreCrop(ImageMethod):
    """Smaller images are laid on black, so that every result has the same size."""

    name = "centre-crop"
    Parameters = CentreCropParameters
    sets_size = True
    mends = "image size"

    def apply(self, image: Image.Image, parameters: CentreCropParameters, state: State) -> Image.Image:
        left, top = _corner(image.size, parameters)
        return image.crop((left, top, left + parameters.width_px, top + parameters.height_px))

    def keeps(self, header: Header, parameters: CentreCropParameters, state: State) -> bool:
        return (header.width_px, header.height_px) == (parameters.width_px, parameters.height_px)

    def geometry(self, size: tuple[int, int], parameters: CentreCropParameters) -> Geometry:
        import numpy as np

        left, top = _corner(size, parameters)
        matrix = np.array([[1, 0, -left], [0, 1, -top]], np.float64)
        return Geometry(matrix, (parameters.width_px, parameters.height_px))


def _corner(size: tuple[int, int], parameters: CentreCropParameters) -> tuple[int, int]:
    """Left and top of what is cut out; negative where it is larger than the image."""
    return (size[0] - parameters.width_px) // 2, (size[1] - parameters.height_px) // 2
