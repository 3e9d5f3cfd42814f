"""Which figures an evaluation has, by the kind of problem, in the order in which they are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from tasks.report.class_curves import class_curves
from tasks.report.clusters import cluster_choice, cluster_map
from tasks.report.column_importance import column_importance
from tasks.report.components import component_map, explained_variance
from tasks.report.confusion_matrix import confusion_matrix
from tasks.report.mistakes import mistakes_grid
from tasks.report.predicted_vs_true import predicted_vs_true
from tasks.report.reliability import reliability

if TYPE_CHECKING:
    from PIL import Image

    from tasks.evaluate.evaluation import Evaluation


@dataclass(frozen=True)
class Drawn:
    """A figure, and what it is called.

    Attributes:
        key: Name of its artifact.
        about: One line for the page.
        card: The figure.
        shows_rows: Whether rows of the dataset are to be seen in it.
    """

    key: str
    about: str
    card: Figure
    shows_rows: bool = False


def figures(found: Evaluation, pictures: Mapping[str, Image.Image]) -> Iterator[Drawn]:
    """Draw what an evaluation has to show.

    Args:
        found: The evaluation.
        pictures: Those of its mistakes, by row id; none where rows are not pictures.
    """
    detail = f"{found.algorithm} on {found.dataset.name} · {found.split} · {found.rows:,} rows"
    trained = f"{found.algorithm} on {found.dataset.name} · train"
    of = f"of {found.algorithm} on {found.dataset}"
    if found.confusion:
        card = confusion_matrix(found.confusion, found.classes, detail=detail)
        yield Drawn("confusion-matrix", f"Which classes of {found.dataset} are taken for which", card)
    if found.true_values:
        card = predicted_vs_true(
            found.true_values, found.predicted_values, label=found.label or "value", detail=detail
        )
        yield Drawn("predicted-against-true", f"Predictions against the truth, {found.dataset}", card)
    if found.mistakes and pictures:
        card = mistakes_grid(found.mistakes, pictures, detail=detail)
        yield Drawn("mistakes", f"The surest mistakes {of}", card, shows_rows=True)
    if found.curves:
        card = class_curves(found.curves, worst_of=len(found.classes), detail=detail)
        yield Drawn("class-curves", f"ROC and precision-recall curves {of}", card)
    if found.calibration is not None:
        yield Drawn("calibration", f"Calibration {of}", reliability(found.calibration, detail=detail))
    if found.clusters is not None:
        yield Drawn("clusters", f"The clusters {of}", cluster_map(found.clusters, detail=detail))
        if len(found.clusters.tried) > 1:
            card = cluster_choice(found.clusters.tried, len(found.clusters.sizes), detail=trained)
            yield Drawn("number-of-clusters", f"Elbow and silhouette {of}", card)
    if found.components is not None:
        yield Drawn("components", f"The components {of}", component_map(found.components, detail=detail))
        if found.components.ratios:
            card = explained_variance(found.components, detail=trained)
            yield Drawn("explained-variance", f"Explained variance {of}", card)
    if found.importance is not None:
        card = column_importance(found.importance, detail=detail)
        yield Drawn("column-importance", f"What the columns are worth, {found.algorithm}", card)
