"""Figure: how many samples each class has in each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from tasks.report import style

MAX_CLASSES = 24


def class_balance(counts: Mapping[str, Sequence[int]], classes: Sequence[str], *, detail: str = "") -> Figure:
    """Draw one stacked bar a class, one colour a split.

    Args:
        counts: Samples of each class by split, in the order of `classes`.
        classes: Class names.
        detail: What the counts are of, such as the dataset's name.

    Returns:
        The figure. Of more than `MAX_CLASSES` classes, the largest are shown and the rest summed.
    """
    shown, by_split = _largest(counts, classes)
    card = style.figure(1.1 + 0.27 * len(shown))
    axes = card.add_subplot()
    left = [0] * len(shown)
    for index, (split, values) in enumerate(by_split.items()):
        colour = style.SPLIT_COLOURS.get(split, style.SERIES_COLOURS[index % len(style.SERIES_COLOURS)])
        label = f"{split} ({sum(counts[split]):,})"
        axes.barh(shown, values, left=left, color=colour, height=0.72, label=label, linewidth=0)
        left = [a + b for a, b in zip(left, values, strict=True)]
    widest = max(left, default=0) or 1
    for row, total in enumerate(left):
        axes.text(total + widest * 0.008, row, f"{total:,}", va="center", fontsize=9, color=style.INK)
    axes.set_xlim(0, widest * 1.09)
    axes.invert_yaxis()
    style.plain_axes(axes, grid="x")
    axes.tick_params(axis="y", colors=style.INK)
    axes.set_xlabel("samples")
    card.legend(
        loc="outside lower right", ncols=len(by_split), frameon=False, fontsize=9, labelcolor=style.INK
    )
    style.title(card, "Class balance", detail)
    return card


def _largest(
    counts: Mapping[str, Sequence[int]], classes: Sequence[str]
) -> tuple[list[str], dict[str, list[int]]]:
    if len(classes) <= MAX_CLASSES:
        return list(classes), {split: list(values) for split, values in counts.items()}
    totals = [sum(values[i] for values in counts.values()) for i in range(len(classes))]
    order = sorted(range(len(classes)), key=lambda i: -totals[i])
    kept, rest = sorted(order[: MAX_CLASSES - 1]), order[MAX_CLASSES - 1 :]
    names = [classes[i] for i in kept] + [f"{len(rest)} smaller classes"]
    return names, {
        split: [values[i] for i in kept] + [sum(values[i] for i in rest)] for split, values in counts.items()
    }
