"""Figure: ROC and precision-recall curves of each class against the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from tasks.report import style

if TYPE_CHECKING:
    from tasks.evaluate.curves import ClassCurves

_AVERAGE_STYLES = ((0, (4, 2)), (0, (1, 1.5)))


def class_curves(curves: Sequence[ClassCurves], *, worst_of: int = 0, detail: str = "") -> Figure:
    """Draw both kinds side by side, with the areas in the legends.

    Args:
        curves: Of some classes, and their averages.
        worst_of: How many classes there are, where only the worst of them are drawn.
        detail: The split and the model.
    """
    card = style.figure(5.0)
    left, right = card.subplots(1, 2)
    colours = iter(style.SERIES_COLOURS * 2)
    averages = iter(_AVERAGE_STYLES * 2)
    for each in curves:
        how = {"color": next(colours), "linewidth": 1.8}
        if each.average:
            how = {"color": style.INK, "linewidth": 1.5, "linestyle": next(averages)}
        name = _short(each.name)
        left.plot(
            each.false_positive_rate, each.true_positive_rate, label=f"{name}  {each.roc_auc:.3f}", **how
        )
        if each.recall:
            label = f"{name}  {each.average_precision:.3f}"
            right.step(each.recall, each.precision, where="pre", label=label, **how)
    left.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    for axes, title, x, y in (
        (left, "ROC, area under the curve", "false positive rate", "true positive rate"),
        (right, "Precision-recall, average precision", "recall", "precision"),
    ):
        style.plain_axes(axes, grid="both")
        axes.set_title(title, loc="left", fontsize=10.5)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.04)
        style.legend(axes, loc="lower right" if axes is left else "lower left")
    shown = sum(not each.average for each in curves)
    title = "Each class against the rest"
    style.title(card, f"{title}: the worst {shown} of {worst_of}" if worst_of > shown else title, detail)
    return card


def _short(name: str, length: int = 26) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
