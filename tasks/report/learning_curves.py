"""Figure: loss and metrics over the epochs, with the epoch whose weights were kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.report import style

Points = Sequence[tuple[int, float]]
"""(epoch, value) in the order of the epochs."""


def learning_curves(
    curves: Mapping[str, Mapping[str, Points]], *, best_epoch: int | None = None, detail: str = ""
) -> Figure:
    """Draw one panel a quantity, and in it one line a split.

    Args:
        curves: Points by quantity (such as `loss`, `accuracy`) and split (`train`, `validation`).
        best_epoch: Epoch whose weights were kept; marked in every panel.
        detail: What was trained.
    """
    columns = min(2, max(1, len(curves)))
    rows = -(-len(curves) // columns) if curves else 1
    card = style.figure(0.6 + 2.7 * rows)
    panels = card.subplots(rows, columns, squeeze=False)
    for axes in list(panels.flat)[len(curves) :]:
        axes.set_axis_off()
    for axes, (quantity, splits) in zip(panels.flat, curves.items(), strict=False):
        _panel(axes, quantity, splits, best_epoch)
    style.title(card, "Learning curves", detail)
    return card


def _panel(axes: Axes, quantity: str, splits: Mapping[str, Points], best_epoch: int | None) -> None:
    for index, (split, points) in enumerate(splits.items()):
        colour = style.SPLIT_COLOURS.get(split, style.SERIES_COLOURS[index % len(style.SERIES_COLOURS)])
        if len(points) < 2 < max(map(len, splits.values())):
            continue  # known at the end only: a legend without a line
        epochs = [epoch for epoch, _ in points]
        values = [value for _, value in points]
        marker = "o" if len(points) <= 30 else ""
        axes.plot(epochs, values, color=colour, linewidth=1.8, marker=marker, markersize=3.2, label=split)
        at_best = dict(points).get(best_epoch) if best_epoch is not None else None
        if best_epoch is not None and at_best is not None and split == "validation":
            axes.plot([best_epoch], [at_best], "o", color=style.CARD, markeredgecolor=colour,
                      markeredgewidth=2, markersize=8, zorder=5)  # fmt: skip
            axes.annotate(
                f"{at_best:.4g}", (best_epoch, at_best), xytext=(0, -17), textcoords="offset points",
                ha="center", fontsize=9, color=colour, fontweight="bold",
                bbox={"facecolor": style.CARD, "edgecolor": "none", "pad": 1.5},
            )  # fmt: skip
    if best_epoch is not None:
        axes.axvline(best_epoch, color=style.MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=1,
                     label=f"kept: epoch {best_epoch}")  # fmt: skip
    style.plain_axes(axes)
    axes.set_title(quantity.replace("_", " "), loc="left", fontsize=10.5)
    axes.set_xlabel("epoch")
    axes.margins(y=0.14)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    style.legend(axes)
