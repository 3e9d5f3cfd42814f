"""Figure: whether the model is right as often as it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.report import style

if TYPE_CHECKING:
    from tasks.evaluate.calibration import Calibration


def reliability(calibration: Calibration, *, detail: str = "") -> Figure:
    """Draw the reliability diagram beside the number of rows in each bin.

    Args:
        calibration: Rows in bins by confidence.
        detail: The split and the model.
    """
    rows = np.asarray(calibration.rows)
    bins = len(rows)
    middles = (np.arange(bins) + 0.5) / bins
    width = 0.92 / bins
    card = style.figure(3.9)
    left, right = card.subplots(1, 2)
    some = rows > 0
    accuracy, confidence = np.asarray(calibration.accuracy), np.asarray(calibration.confidence)
    left.bar(middles[some], accuracy[some], width, color=style.SKY, label="predicted right")
    gaps = confidence[some] - accuracy[some]
    left.bar(middles[some], gaps, width, bottom=accuracy[some], facecolor="none", edgecolor=style.ORANGE,
             hatch="////", linewidth=0.8, label="gap to what it says")  # fmt: skip
    left.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (3, 3)))
    left.set_ylabel("share predicted right")
    left.set_ylim(0, 1.02)
    right.bar(middles, rows, width, color=style.MUTED)
    right.set_ylabel("rows")
    right.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    for axes in (left, right):
        style.plain_axes(axes)
        axes.set_xlim(0, 1)
        axes.set_xlabel("confidence: probability of the predicted class")
    style.legend(left, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    style.title(card, f"Calibration: expected error {calibration.error:.3f}", detail)
    return card
