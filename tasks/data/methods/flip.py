"""Mirror images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.data.methods.method import Geometry, ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image

_TRANSPOSES = {"horizontal": "FLIP_LEFT_RIGHT", "vertical": "FLIP_TOP_BOTTOM", "both": "ROTATE_180"}


class FlipParameters(MethodParameters):
    """Parameters of `Flip`."""

    direction: Literal["horizontal", "vertical", "both"] = Field(
        default="horizontal", description="Horizontal swaps left and right, vertical top and bottom."
    )


class Flip(ImageMethod):
    """Mirror left to right, top to bottom, or both."""

    name = "flip"
    Parameters = FlipParameters

    def apply(self, image: Image.Image, parameters: FlipParameters, state: State) -> Image.Image:
        from PIL import Image

        return image.transpose(Image.Transpose[_TRANSPOSES[parameters.direction]])

    def geometry(self, size: tuple[int, int], parameters: FlipParameters) -> Geometry:
        import numpy as np

        matrix = np.array([[1, 0, 0], [0, 1, 0]], np.float64)
        if parameters.direction != "vertical":
            matrix[0] = [-1, 0, size[0]]
        if parameters.direction != "horizontal":
            matrix[1] = [0, -1, size[1]]
        return Geometry(matrix, size)
