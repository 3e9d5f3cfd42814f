"""Turn images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.data.methods.method import Geometry, ImageMethod, MethodParameters, State

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

    def geometry(self, size: tuple[int, int], parameters: RotateParameters) -> Geometry:
        import numpy as np

        angle = math.radians(parameters.angle_degrees % 360)
        # Rounded as Pillow does it, so that right angles are exact.
        cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
        # The y axis points down: anticlockwise on the screen is clockwise in these coordinates.
        turn = np.array([[cosine, sine], [-sine, cosine]], np.float64)
        centre = np.array(size) / 2
        result = size
        if parameters.expand:
            result = _enlarged(size, cosine, sine)
        shift = np.array(result) / 2 - turn @ centre
        return Geometry(np.column_stack([turn, shift]), result)


def _enlarged(size: tuple[int, int], cosine: float, sine: float) -> tuple[int, int]:
    """Width and height of the smallest whole rectangle that holds all corners, as Pillow rounds it."""
    width, height = size
    middle_x, middle_y = width / 2, height / 2
    xs, ys = [], []
    for x, y in ((0, 0), (width, 0), (width, height), (0, height)):
        # Pillow turns the other way here: it takes the map from the result to the image.
        xs.append(cosine * (x - middle_x) - sine * (y - middle_y) + middle_x)
        ys.append(sine * (x - middle_x) + cosine * (y - middle_y) + middle_y)
    return math.ceil(max(xs)) - math.floor(min(xs)), math.ceil(max(ys)) - math.floor(min(ys))
