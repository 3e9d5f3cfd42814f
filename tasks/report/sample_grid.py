"""Figure: sample images, and beside each its preprocessed form where there is one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from tasks.report import style

COLUMNS = 8


def sample_grid(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    *,
    before: Sequence[Image.Image] | None = None,
    detail: str = "",
) -> Figure:
    """Draw up to a few dozen images with their labels.

    Args:
        images: The samples, in any mode and size.
        captions: One short caption a sample, usually its class.
        before: The same samples before preprocessing; drawn above each sample.
        detail: What is shown, such as the dataset's name and version.
    """
    rows = max(1, -(-len(images) // COLUMNS))
    per_row = 2.05 if before is not None else 1.18
    card = style.figure(0.5 + per_row * rows)
    bands = [before, images] if before is not None else [images]
    grid = card.subplots(rows * len(bands), COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for index, caption in enumerate(captions):
        row, column = divmod(index, COLUMNS)
        for band, pictures in enumerate(bands):
            axes = grid[row * len(bands) + band, column]
            draw_picture(axes, pictures[index])
            if band == 0:
                axes.set_title(_short(caption), fontsize=9, color=style.INK, pad=3)
            if before is not None and column == 0:
                name = "before" if band == 0 else "after"
                axes.text(-0.12, 0.5, name, rotation=90, transform=axes.transAxes, va="center", ha="right",
                          fontsize=8.5, color=style.MUTED)  # fmt: skip
    style.title(card, "Samples before and after preprocessing" if before is not None else "Samples", detail)
    return card


def draw_picture(axes: Axes, picture: Image.Image) -> None:
    """Draw one picture, no larger than a page can show."""
    colour = picture if picture.mode in {"L", "RGB"} else picture.convert("RGB")
    if max(colour.size) > 160:  # more than the page can show only makes it heavier
        colour = colour.copy()
        colour.thumbnail((160, 160))
    axes.imshow(np.asarray(colour), cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def _short(caption: str, length: int = 12) -> str:
    return caption if len(caption) <= length else caption[: length - 1] + "…"
