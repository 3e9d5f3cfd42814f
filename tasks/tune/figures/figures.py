"""All pictures of a study, by the keys of their artifacts."""

from __future__ import annotations

from tasks.tune.figures.coordinates import coordinates
from tasks.tune.figures.history import history
from tasks.tune.figures.importance import Importance, importance_picture
from tasks.tune.view import StudyView

FIGURES = {
    "study-history": "Value of each trial and the best so far",
    "study-coordinates": "Hyperparameters and value of each trial, side by side",
    "study-importance": "Which hyperparameters matter",
}
"""Keys of the pictures, with what they show."""


def figures(view: StudyView, found: Importance) -> dict[str, str]:
    """The pictures of a study that there are, as SVG, by the key of their artifact."""
    drawn = {
        "study-history": history(view),
        "study-coordinates": coordinates(view, list(found.shares)),
        "study-importance": importance_picture(found, view),
    }
    return {key: picture for key, picture in drawn.items() if picture}
