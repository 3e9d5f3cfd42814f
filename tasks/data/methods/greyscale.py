"""Drop the colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.data.methods.method import ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image

    from tasks.data.formats.images import Header


class GreyscaleParameters(MethodParameters):
    """Parameters of `Greyscale`."""


class Greyscale(ImageMethod):
    """Luma by ITU-R 601-2: 0.299 R + 0.587 G + 0.114 B."""

    name = "greyscale"
    Parameters = GreyscaleParameters
    sets_mode = True

    def apply(self, image: Image.Image, parameters: GreyscaleParameters, state: State) -> Image.Image:
        return image if image.mode == "L" else image.convert("L")

    def keeps(self, header: Header, parameters: GreyscaleParameters, state: State) -> bool:
        return header.mode == "L"
