"""Turn images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.data.methods.method import ImageMethod, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image


class RotateParameters(MethodParameters):
    """Parameters of `Rotate`."""

    angle_degrees: float = Field(
        default=90, ge=-360, le=360, allow_inf_nan=False, description="Angle, anticlockwise, in degrees."
    )
    expand: bool = Field(
        default=False, description="Enlarge the result so that the corners stay in it; the rest is black."
    )


class Rotate(ImageMethod):
    """Turn about the centre."""

    name = "rotate"
    Parameters = RotateParameters

    def apply(self, image: Image.Image, parameters: RotateParameters, state: State) -> Image.Image:
        from PIL import Image

        return image.rotate(
            parameters.angle_degrees, resample=Image.Resampling.BILINEAR, expand=parameters.expand
        )
