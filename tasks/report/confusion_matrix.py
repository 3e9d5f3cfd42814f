"""Figure: which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tasks.report import style

MAX_NUMBERED = 25


def confusion_matrix(matrix: Sequence[Sequence[int]], classes: Sequence[str], *, detail: str = "") -> Figure:
    """Draw the matrix: rows are the true classes, columns the predicted ones.

    Colour is the share of the true class, so that a rare class is as visible as a common one; the
    numbers are counts. Errors are drawn on a scale of their own, or a good model would look empty.

    Args:
        matrix: [k][k] counts, true class by predicted class.
        classes: k class names.
        detail: The split and the model.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    size = len(classes)
    side = float(np.clip(1.6 + 0.48 * size, 3.4, 8.5))
    card = style.figure(side, width_in=min(style.WIDTH_IN, side + 1.4))
    axes = card.add_subplot()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    diagonal = np.eye(size, dtype=bool)
    axes.imshow(np.ma.masked_array(share, ~diagonal), cmap="Blues", vmin=0, vmax=1.15)  # type: ignore[no-untyped-call]
    worst = max(float(share[~diagonal].max(initial=0.0)), 0.05)
    axes.imshow(np.ma.masked_array(share, diagonal | (counts == 0)), cmap="Oranges", vmin=0, vmax=worst * 1.6)  # type: ignore[no-untyped-call]
    if size <= MAX_NUMBERED:
        _write_numbers(axes, counts, share, size)
    rotate = size > 6 and max(len(name) for name in classes) > 3
    axes.set_xticks(range(size), classes, rotation=45 if rotate else 0, ha="right" if rotate else "center")
    axes.set_yticks(range(size), classes)
    style.plain_axes(axes, grid="")
    axes.tick_params(colors=style.INK)
    axes.set_xticks(np.arange(-0.5, size), minor=True)
    axes.set_yticks(np.arange(-0.5, size), minor=True)
    axes.grid(which="minor", color=style.CARD if size > MAX_NUMBERED else style.RULE, linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    style.title(card, "Confusion matrix", detail)
    return card


def _write_numbers(axes: object, counts: np.ndarray, share: np.ndarray, size: int) -> None:
    font = float(np.clip(13 - 0.32 * size, 6, 11))
    for row in range(size):
        for column in range(size):
            if counts[row, column] == 0:
                continue
            dark = row == column and share[row, column] > 0.6
            axes.text(  # type: ignore[attr-defined]
                column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=font,
                color=style.CARD if dark else style.INK,
            )  # fmt: skip
