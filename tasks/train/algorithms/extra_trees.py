"""Extremely randomised trees (Geurts, Ernst and Wehenkel, 2006)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.refs import Problem
from tasks.train.algorithms.forest import Forest, ForestHyperparameters, tree_parameters
from tasks.train.algorithms.suitability import (
    MANY_ROWS,
    Characteristics,
    Suitability,
    filled_in,
    suitability,
    tree_reason,
)

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator


class ExtraTrees(Forest):
    """The mean of many trees that split at random places, each grown on all rows."""

    name = "extra_trees"
    title = "Extra trees"
    summary = "A forest that splits at random places: grown faster, and smoother than a random forest."

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        many = data.train_rows > MANY_ROWS
        return suitability(
            2.4 - 0.5 * many + 0.1 * filled_in(data),
            "as sound as a random forest, and smoother where columns are noisy",
            "slower than boosting on so many rows" if many else "",
            tree_reason(data),
        )

    def estimator(self, problem: Problem, settings: ForestHyperparameters, seed: int) -> BaseEstimator:
        """See `ScikitLearnAlgorithm.estimator`."""
        from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

        kind = ExtraTreesClassifier if problem.is_classification else ExtraTreesRegressor
        return kind(**tree_parameters(problem, settings, seed))


ALGORITHMS = (ExtraTrees(),)
