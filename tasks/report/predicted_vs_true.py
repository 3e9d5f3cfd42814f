"""Figure: predicted values against true values of a regression, and the errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.report import style

MAX_POINTS = 4_000


def predicted_vs_true(
    true: Sequence[float], predicted: Sequence[float], *, label: str = "value", detail: str = ""
) -> Figure:
    """Draw predictions against truth, and the errors against the predictions with their distribution.

    Args:
        true: [n] true values.
        predicted: [n] predicted values.
        label: Name of the predicted column.
        detail: The split and the model.
    """
    truth, guess = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if len(truth) > MAX_POINTS:  # an even thinning in the order of the truth keeps both tails
        chosen = np.argsort(truth)[:: -(-len(truth) // MAX_POINTS)]
        truth, guess = truth[chosen], guess[chosen]
    errors = guess - truth
    card = style.figure(4.2)
    left, middle, right = card.subplots(1, 3, width_ratios=[1.2, 1.2, 0.45])
    low, high = float(min(truth.min(), guess.min())), float(max(truth.max(), guess.max()))
    left.plot([low, high], [low, high], color=style.MUTED, linewidth=1, linestyle=(0, (3, 3)), label="exact")
    left.scatter(truth, guess, s=14, color=style.BLUE, alpha=0.55, linewidths=0)
    left.set_xlabel(f"true {label}")
    left.set_ylabel(f"predicted {label}")
    style.plain_axes(left, grid="both")
    style.legend(left, loc="upper left")

    widest = float(np.abs(errors).max(initial=0.0)) * 1.02 or 1.0
    middle.scatter(guess, errors, s=14, color=style.BLUE, alpha=0.55, linewidths=0)
    middle.set_xlabel(f"predicted {label}")
    middle.set_ylabel("error (predicted - true)")
    bins = min(40, max(8, len(errors) // 8))
    right.hist(errors, bins=bins, range=(-widest, widest), color=style.SKY, linewidth=0,
               orientation="horizontal")  # fmt: skip
    right.set_xlabel("samples")
    right.set_yticklabels([])
    right.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    for axes in (middle, right):
        axes.set_ylim(-widest, widest)
        axes.axhline(0, color=style.MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.axhline(float(errors.mean()), color=style.ORANGE, linewidth=1.4,
                     label=f"mean {errors.mean():.3g}")  # fmt: skip
    style.plain_axes(middle, grid="both")
    style.plain_axes(right)
    style.legend(middle, loc="upper left")
    style.title(card, "Predicted against true, and the errors", detail)
    return card
