"""Make negatives of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.data.methods.method import ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image


class InvertParameters(MethodParameters):
    """Parameters of `Invert`."""


class Invert(ImageMethod):
    """Every value v becomes 255 - v."""

    name = "invert"
    Parameters = InvertParameters

    def apply(self, image: Image.Image, parameters: InvertParameters, state: State) -> Image.Image:
        from PIL import ImageOps

        return ImageOps.invert(image)
