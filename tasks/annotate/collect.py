"""Check labels that came back, and say in words what is missing or in conflict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.annotate.label_studio import Choice
from tasks.errors import InvalidData

NAMED = 10


@dataclass(frozen=True)
class Progress:
    """How far an assignment is.

    Attributes:
        done: Labelled items by annotator.
        of: Assigned items by annotator.
        counts: Labelled items by class.
    """

    done: dict[str, int]
    of: dict[str, int]
    counts: dict[str, int]


def merge(
    choices: Sequence[Choice], assigned: Mapping[str, Sequence[str]], classes: Sequence[str]
) -> dict[str, str]:
    """One label an item.

    The same choice twice (an export read twice, or a reviewer who agrees) is one label.

    Args:
        choices: Everything that came back.
        assigned: Item ids by annotator.
        classes: Labels that are allowed.

    Returns:
        Label by item id; items without a choice are absent.

    Raises:
        InvalidData: A label or an item is unknown, or two choices for an item differ.
    """
    known = {item for items in assigned.values() for item in items}
    unknown_labels = sorted({choice.label for choice in choices} - set(classes))
    if unknown_labels:
        example = next(choice for choice in choices if choice.label == unknown_labels[0])
        raise InvalidData(
            f"{_count(len(unknown_labels), 'label is', 'labels are')} unknown: {_named(unknown_labels)}",
            where=f"{example.source}, item {example.item}",
            allowed=", ".join(classes),
            mend="correct the labels, or assign again with these classes",
        )
    strangers = sorted({choice.item for choice in choices} - known)
    if strangers:
        raise InvalidData(
            f"{_count(len(strangers), 'item was', 'items were')} never assigned: {_named(strangers)}",
            where=", ".join(sorted({choice.source for choice in choices if choice.item in set(strangers)})),
            mend="take the exports of this assignment",
        )
    labels: dict[str, str] = {}
    conflicts: dict[str, list[str]] = {}
    for choice in choices:
        before = labels.setdefault(choice.item, choice.label)
        if before != choice.label:
            conflicts.setdefault(choice.item, [before]).append(choice.label)
    if conflicts:
        words = [f"{item} ({' or '.join(dict.fromkeys(found))})" for item, found in conflicts.items()]
        raise InvalidData(
            f"{_count(len(conflicts), 'item has', 'items have')} different labels: {_named(words)}",
            where=", ".join(sorted({choice.source for choice in choices if choice.item in conflicts})),
            mend="let the reviewer decide, then export again",
        )
    return labels


def require_complete(labels: Mapping[str, str], assigned: Mapping[str, Sequence[str]]) -> None:
    """Check that every assigned item has a label.

    Raises:
        InvalidData: Names the missing items and who has them.
    """
    missing = {name: [item for item in items if item not in labels] for name, items in assigned.items()}
    missing = {name: items for name, items in missing.items() if items}
    if not missing:
        return
    total = sum(map(len, missing.values()))
    who = "; ".join(f"{name} lacks {len(items)}: {_named(items)}" for name, items in missing.items())
    raise InvalidData(
        f"{_count(total, 'item is', 'items are')} not labelled yet",
        where=who,
        mend="label them and export again, or collect without requiring completeness",
    )


def progress(
    labels: Mapping[str, str], assigned: Mapping[str, Sequence[str]], classes: Sequence[str]
) -> Progress:
    """Count what is done."""
    counts = dict.fromkeys(classes, 0)
    for label in labels.values():
        counts[label] += 1
    done = {name: sum(item in labels for item in items) for name, items in assigned.items()}
    return Progress(done, {name: len(items) for name, items in assigned.items()}, counts)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
