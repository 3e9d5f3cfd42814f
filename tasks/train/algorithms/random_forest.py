"""Random forests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.refs import Problem
from tasks.train.algorithms.forest import Forest, ForestHyperparameters, tree_parameters
from tasks.train.algorithms.suitability import (
    MANY_ROWS,
    RARE_SHARE,
    Characteristics,
    Suitability,
    filled_in,
    suitability,
    tree_reason,
)

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator


class RandomForest(Forest):
    """The mean of many trees, each grown on a sample of the rows and columns."""

    name = "random_forest"
    title = "Random forest"
    summary = "Sound on most tables as it comes, large or small, scaled or not."

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        many, rare = data.train_rows > MANY_ROWS, data.smallest_class_share < RARE_SHARE
        return suitability(
            2.5 - 0.5 * many + 0.3 * rare + 0.1 * filled_in(data),
            "sound on most tables without tuning",
            "weighs the rare classes' rows in every leaf" if rare else "",
            "slower than boosting on so many rows" if many else "",
            tree_reason(data),
        )

    def estimator(self, problem: Problem, settings: ForestHyperparameters, seed: int) -> BaseEstimator:
        """See `ScikitLearnAlgorithm.estimator`."""
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        kind = RandomForestClassifier if problem.is_classification else RandomForestRegressor
        return kind(**tree_parameters(problem, settings, seed))


ALGORITHMS = (RandomForest(),)
