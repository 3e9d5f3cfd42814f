"""Spread the brightness of images evenly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.data.methods.method import ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image


class EqualiseParameters(MethodParameters):
    """Parameters of `Equalise`."""

    of: Literal["brightness", "channels"] = Field(
        default="brightness",
        description="Brightness keeps the hues. Channels equalises red, green and blue each by itself.",
    )


class Equalise(ImageMethod):
    """Histogram equalisation: every range of brightness becomes as frequent as any other."""

    name = "equalise"
    Parameters = EqualiseParameters

    def apply(self, image: Image.Image, parameters: EqualiseParameters, state: State) -> Image.Image:
        from PIL import Image, ImageOps

        if image.mode == "L" or parameters.of == "channels":
            return ImageOps.equalize(image)
        brightness, blue, red = image.convert("YCbCr").split()
        merged = Image.merge("YCbCr", (ImageOps.equalize(brightness), blue, red))
        return merged.convert("RGB")
