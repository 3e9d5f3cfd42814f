"""Bring the brightness of images to one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.data.methods.method import Ask, Batch, ImageMethod, Learning, MethodParameters, State

if TYPE_CHECKING:
    from PIL import Image

CENTRE = 128
WIDTH = 64
"""A value that is z deviations from the mean becomes 128 + 64 z: two deviations fit to each side."""


class NormaliseParameters(MethodParameters):
    """Parameters of `Normalise`."""

    by: Literal["training", "image"] = Field(
        default="training",
        description="Training: the mean of each channel over the training images becomes 128, a standard "
        "deviation 64, and what leaves 0 to 255 is clipped. Image: the darkest value of each image "
        "becomes 0, its brightest 255.",
    )


class Normalise(Learning, ImageMethod):
    """State by training: `mean` and `deviation` of every channel; one channel if all images were grey.

    The result has as many channels as the state.
    """

    name = "normalise"
    Parameters = NormaliseParameters

    def summarise(self, question: Any, batch: Batch, parameters: NormaliseParameters) -> dict[str, Any]:
        """Histograms by mode: int64 [channels · 256]."""
        import numpy as np

        found: dict[str, Any] = {}
        for image in batch.rows:
            histogram = np.array(image.histogram(), np.int64)
            found[image.mode] = found.get(image.mode, 0) + histogram
        return found

    def learn(self, ask: Ask, like: Batch, parameters: NormaliseParameters) -> State:
        if parameters.by == "image":
            return {}
        import numpy as np

        totals: dict[str, Any] = {}
        for answer in ask("histograms"):
            for mode, histogram in answer.items():
                totals[mode] = totals.get(mode, 0) + histogram
        if "RGB" in totals and "L" in totals:  # grey is colour with three equal channels
            totals["RGB"] = totals["RGB"] + np.tile(totals.pop("L"), 3)
        (histogram,) = totals.values()
        mean, deviation = [], []
        for channel in histogram.reshape(-1, 256).tolist():
            # Whole numbers until the end, so that nothing is rounded on the way.
            count = sum(channel)
            total = sum(value * times for value, times in enumerate(channel))
            squares = sum(value * value * times for value, times in enumerate(channel))
            mean.append(total / count)
            deviation.append(max(count * squares - total * total, 0) ** 0.5 / count)
        return {"mean": mean, "deviation": deviation}

    def apply(self, image: Image.Image, parameters: NormaliseParameters, state: State) -> Image.Image:
        if parameters.by == "image":
            extremes: Any = image.getextrema()
            pairs = [extremes] if image.mode == "L" else extremes
            low, high = min(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
            if low == high:
                return image
            stretched = [_level(255 * (value - low) / (high - low)) for value in range(256)]
            return image.point(stretched * len(image.getbands()))
        mode = "L" if len(state["mean"]) == 1 else "RGB"
        table: list[int] = []
        for mean, deviation in zip(state["mean"], state["deviation"], strict=True):
            width = deviation or 1.0
            table += [_level(CENTRE + WIDTH * (value - mean) / width) for value in range(256)]
        return (image if image.mode == mode else image.convert(mode)).point(table)


def _level(value: float) -> int:
    return min(max(round(value), 0), 255)
