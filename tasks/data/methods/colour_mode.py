"""One colour mode for all images: what the training images have, or a chosen one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.data.methods.method import ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image

    from tasks.data.images import Header


class ColourModeParameters(MethodParameters):
    """Parameters of `ColourMode`."""

    mode: Literal["as-trained", "grey", "rgb"] = Field(
        default="as-trained",
        description="Grey or RGB; as-trained is grey if every training image is grey, else RGB.",
    )


class ColourMode(ImageMethod):
    """Convert to one mode, L or RGB. State: `mode`."""

    name = "colour-mode"
    Parameters = ColourModeParameters
    learns = True
    sets_mode = True

    def summarise(self, batch: Iterable[Image.Image], parameters: ColourModeParameters) -> set[str]:
        return {image.mode for image in batch}

    def learn(self, summaries: Sequence[set[str]], parameters: ColourModeParameters) -> State:
        if parameters.mode != "as-trained":
            return {"mode": "L" if parameters.mode == "grey" else "RGB"}
        return {"mode": "L" if set().union(*summaries) == {"L"} else "RGB"}

    def apply(self, image: Image.Image, parameters: ColourModeParameters, state: State) -> Image.Image:
        return image if image.mode == state["mode"] else image.convert(state["mode"])

    def keeps(self, header: Header, parameters: ColourModeParameters, state: State) -> bool:
        return bool(header.mode == state["mode"])
