"""Figures of a clustering: how its number of clusters was chosen, and where its clusters lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.report import style

if TYPE_CHECKING:
    from tasks.evaluate.unlabelled import Clusters, Tried

MOST_NAMED = 12
"""Clusters that are named in the figure; of more, the centres are numbered alone."""


def cluster_choice(tried: Sequence[Tried], chosen: int, *, detail: str = "") -> Figure:
    """Draw inertia (the elbow) beside the silhouette over the numbers of clusters, the chosen one marked.

    Args:
        tried: What the training measured, at least two.
        chosen: Clusters of the model.
        detail: The model and the data.
    """
    card = style.figure(3.6)
    left, right = card.subplots(1, 2)
    numbers = [one.clusters for one in tried]
    for axes, values, name in (
        (left, [one.inertia for one in tried], "inertia (training rows)"),
        (right, [one.silhouette for one in tried], "silhouette (training rows)"),
    ):
        axes.plot(numbers, values, color=style.BLUE, linewidth=1.8, marker="o", markersize=4)
        if chosen in numbers:
            value = values[numbers.index(chosen)]
            axes.axvline(chosen, color=style.MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=0)
            axes.plot([chosen], [value], "o", color=style.ORANGE, markersize=8, label=f"chosen: {chosen}")
            style.legend(axes, loc="best")
        style.plain_axes(axes)
        axes.set_xlabel("clusters")
        axes.set_ylabel(name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_ylim(bottom=0)
    style.title(card, "Number of clusters", detail)
    return card


def cluster_map(found: Clusters, *, detail: str = "") -> Figure:
    """Draw the rows on their two directions of most variance, coloured by cluster, beside its sizes.

    Args:
        found: What was found in the evaluated rows.
        detail: The split and the model.
    """
    card = style.figure(4.2)
    left, right = card.subplots(1, 2, width_ratios=[1.9, 1])
    points, of = np.asarray(found.points), np.asarray(found.of)
    colours = [colour_of(number) for number in range(len(found.sizes))]
    for number, colour in enumerate(colours):
        inside = points[of == number]
        left.scatter(inside[:, 0], inside[:, 1], s=16, color=colour, alpha=0.6, linewidths=0)
    # All centres over all rows, so that none is hidden.
    for number, (x, y) in enumerate(found.centres):
        left.scatter([x], [y], s=150, color=style.CARD, edgecolors=colours[number], linewidths=2, zorder=3)
        left.text(x, y, str(number), ha="center", va="center", fontsize=8.5, color=style.INK, zorder=4)
    style.plain_axes(left, grid="both")
    left.set_xlabel(f"first direction ({found.shares[0]:.0%} of the variance)")
    left.set_ylabel(f"second direction ({found.shares[1]:.0%})")
    places = np.arange(len(found.sizes))
    right.barh(places, found.sizes, color=colours, height=0.7)
    for place, size in zip(places, found.sizes, strict=True):
        if len(places) <= MOST_NAMED:
            right.text(size, place, f" {size:,}", va="center", fontsize=9, color=style.MUTED)
    style.plain_axes(right, grid="x")
    if len(places) <= MOST_NAMED:
        right.set_yticks(places, [f"cluster {number}" for number in places])
    right.set_xlim(right=max(found.sizes) * 1.18 or 1)
    right.invert_yaxis()
    right.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    right.set_xlabel("rows")
    style.title(card, "Clusters", detail)
    return card


def colour_of(number: int) -> str:
    """The palette in turn; the number at a centre tells clusters of one colour apart."""
    return style.SERIES_COLOURS[number % len(style.SERIES_COLOURS)]
