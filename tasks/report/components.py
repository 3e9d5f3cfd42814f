"""Figures of principal components: what each explains, what it is made of, and the rows on the first two."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tasks.evaluate.unlabelled import Components
from tasks.report import style

MOST_BARS = 30


def explained_variance(found: Components, *, detail: str = "") -> Figure:
    """Draw each component's share of the variance as bars, and their sum as a line.

    Args:
        found: What was found; at least one component.
        detail: The model and the data.
    """
    card = style.figure(3.6)
    axes = card.subplots()
    shares = np.asarray(found.ratios[:MOST_BARS])
    numbers = np.arange(1, len(shares) + 1)
    colours = [style.BLUE if number <= found.kept else style.RULE for number in numbers]
    axes.bar(numbers, shares, color=colours, width=0.7, label="each")
    axes.plot(
        numbers,
        np.cumsum(shares),
        color=style.ORANGE,
        linewidth=1.8,
        marker="o",
        markersize=4,
        label="together",
    )
    kept = float(np.sum(found.ratios[: found.kept]))
    if found.kept < len(found.ratios):
        axes.axvline(found.kept + 0.5, color=style.MUTED, linewidth=1, linestyle=(0, (3, 3)))
    style.plain_axes(axes)
    axes.set_ylim(0, 1.04)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"component ({found.kept} kept, {kept:.1%} of the training rows' variance)")
    axes.set_ylabel("share of the variance")
    style.legend(axes, loc="center right")
    style.title(card, "Explained variance", detail)
    return card


def component_map(found: Components, *, detail: str = "") -> Figure:
    """Draw the rows on the first two components, beside the loadings of the first ones.

    Args:
        found: What was found in the evaluated rows.
        detail: The split and the model.
    """
    inputs, loadings = found.inputs, np.asarray(found.loadings).T
    card = style.figure(max(4.2, 1.4 + 0.22 * len(inputs)))
    left, right = card.subplots(1, 2, width_ratios=[1.3, 1])
    points = np.asarray(found.points)
    left.scatter(points[:, 0], points[:, 1], s=16, color=style.BLUE, alpha=0.55, linewidths=0)
    style.plain_axes(left, grid="both")
    left.set_xlabel("component 1")
    left.set_ylabel("component 2" if found.kept > 1 else "(there is one component)")
    widest = float(np.abs(loadings).max()) or 1.0
    right.imshow(loadings, cmap="PuOr", vmin=-widest, vmax=widest, aspect="auto")
    right.set_xticks(range(loadings.shape[1]), [str(place) for place in range(1, loadings.shape[1] + 1)])
    right.set_yticks(range(len(inputs)), [_short(name) for name in inputs])
    if len(inputs) <= 14:
        for (row, column), value in np.ndenumerate(loadings):
            ink = style.CARD if abs(value) > 0.65 * widest else style.INK
            right.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)
    style.plain_axes(right, grid="")
    right.set_xlabel("component")
    right.set_title("loadings", fontsize=10)
    style.title(card, "Components", detail)
    return card


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
