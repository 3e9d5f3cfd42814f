"""Mirror images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.data.methods.method import ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image


class FlipParameters(MethodParameters):
    """Parameters of `Flip`."""

    direction: Literal["horizontal", "vertical"] = Field(
        default="horizontal", description="Horizontal swaps left and right, vertical top and bottom."
    )


class Flip(ImageMethod):
    """Mirror left to right or top to bottom."""

    name = "flip"
    Parameters = FlipParameters

    def apply(self, image: Image.Image, parameters: FlipParameters, state: State) -> Image.Image:
        from PIL import Image

        horizontal = parameters.direction == "horizontal"
        return image.transpose(
            Image.Transpose.FLIP_LEFT_RIGHT if horizontal else Image.Transpose.FLIP_TOP_BOTTOM
        )
