"""Random forests."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.scikit_learn_algorithm import ScikitLearnAlgorithm
from tasks.train.algorithms.suitability import (
    MANY_ROWS,
    RARE_SHARE,
    Characteristics,
    Suitability,
    suitability,
)

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator


class RandomForestHyperparameters(AlgorithmSettings):
    """Settings of the forest."""

    trees: int = Field(default=100, ge=1, le=10_000, description="Trees in the forest.")
    max_depth: int | None = Field(
        default=None, ge=1, le=1000, description="Largest depth of a tree; empty grows it to the end."
    )
    min_rows_in_leaf: int = Field(
        default=1, ge=1, le=1_000_000, description="Fewest training rows in a leaf."
    )


class RandomForest(ScikitLearnAlgorithm):
    """The mean of many trees, each grown on a sample of the rows and columns."""

    name = "random_forest"
    title = "Random forest"
    summary = "Sound on most tables as it comes, large or small, scaled or not."
    problems = frozenset({Problem.TABLE_CLASSIFICATION, Problem.TABLE_REGRESSION})
    Hyperparameters = RandomForestHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        "trees": {"kind": "choice", "choices": [50, 100, 200, 400]},
        "max_depth": {"kind": "int", "low": 3, "high": 24, "step": 3},
        "min_rows_in_leaf": {"kind": "int", "low": 1, "high": 10},
    }

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        many, rare = data.train_rows > MANY_ROWS, data.smallest_class_share < RARE_SHARE
        return suitability(
            2.5 - 0.5 * many + 0.3 * rare,
            "sound on most tables without tuning",
            "weighs the rare classes' rows in every leaf" if rare else "",
            "slower than boosting on so many rows" if many else "",
        )

    def estimator(self, problem: Problem, settings: RandomForestHyperparameters, seed: int) -> BaseEstimator:
        """See `ScikitLearnAlgorithm.estimator`."""
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        kind = RandomForestClassifier if problem.is_classification else RandomForestRegressor
        return kind(
            n_estimators=settings.trees,
            max_depth=settings.max_depth,
            min_samples_leaf=settings.min_rows_in_leaf,
            random_state=seed,
        )


ALGORITHMS = (RandomForest(),)
