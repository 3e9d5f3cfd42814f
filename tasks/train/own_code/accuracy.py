"""The accuracy that code reports beside that of the model which it saved."""

from __future__ import annotations

import re

from tasks.train.algorithms.fit import Metrics

MOST_APART = 0.1
"""They may differ by so much: by which rows were scored, and by which epoch was saved."""
_VALIDATION = re.compile(r"(^|[^a-z])(eval|evaluation|val|valid|validation|dev)[^a-z].*acc(uracy)?([^a-z]|$)")
_PLAIN = re.compile(r"^acc(uracy)?$")


def accuracy_apart(reported: Metrics, scores: Metrics) -> str:
    """A word where the code's own accuracy is far from the saved model's; empty where it is near or unknown.

    Args:
        reported: The last values that the code reported; shares, or percent where they are above 1.
        scores: The saved model's on our rows; with `validation_accuracy` where that is known.
    """
    ours = scores.get("validation_accuracy")
    if ours is None:
        return ""
    for name, value in sorted(reported.items()):
        plain = bool(_PLAIN.match(name.lower()))
        if not plain and not _VALIDATION.search(name.lower()):
            continue
        share = value / 100 if 1 < value <= 100 else value
        # A plain name may be of the training rows.
        known = [ours, scores.get("train_accuracy", ours)] if plain else [ours]
        if all(abs(share - one) > MOST_APART for one in known):
            return (
                f"the code reported {name} {value:.3g}, its saved model has {ours:.3g} on validation rows as "
                "it is given them here: it may have learned on other inputs, or another order of classes"
            )
    return ""
