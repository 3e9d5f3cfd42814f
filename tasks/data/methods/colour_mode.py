"""One colour mode for all images: what the training images have, or a chosen one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.data.methods.method import Ask, Batch, ImageMethod, Learning, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image

    from tasks.data.formats.images import Header


class ColourModeParameters(MethodParameters):
    """Parameters of `ColourMode`."""

    mode: Literal["as-trained", "grey", "rgb"] = Field(
        default="as-trained",
        description="Grey or RGB; as-trained is grey if every training image is grey, else RGB.",
    )


class ColourMode(Learning, ImageMethod):
    """Convert to one mode, L or RGB. State: `mode`."""

    name = "colour-mode"
    Parameters = ColourModeParameters
    sets_mode = True

    def summarise(self, question: Any, batch: Batch, parameters: ColourModeParameters) -> set[str]:
        return {image.mode for image in batch.rows}

    def learn(self, ask: Ask, like: Batch, parameters: ColourModeParameters) -> State:
        if parameters.mode != "as-trained":
            return {"mode": "L" if parameters.mode == "grey" else "RGB"}
        return {"mode": "L" if set().union(*ask("modes")) == {"L"} else "RGB"}

    def apply(self, image: Image.Image, parameters: ColourModeParameters, state: State) -> Image.Image:
        return image if image.mode == state["mode"] else image.convert(state["mode"])

    def keeps(self, header: Header, parameters: ColourModeParameters, state: State) -> bool:
        return bool(header.mode == state["mode"])
