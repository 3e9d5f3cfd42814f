"""What the forests share: trees are grown a few at a time, so that a fit can be followed and stopped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings
from tasks.train.algorithms.fields import ClassWeights
from tasks.train.algorithms.fit import Fit, FitContext, Metrics, TrainingData
from tasks.train.algorithms.one_call import import_estimators
from tasks.train.algorithms.scikit_learn_algorithm import (
    ScikitLearnAlgorithm,
    fitted_to_the_end,
    scores_of,
    threads,
)

if TYPE_CHECKING:
    from tasks.train.algorithms.algorithm import SearchRange

PARTS = 10
"""Reports of a fit."""
HEARD_EVERY_S = 1.0
"""A stop and the time limit are heard about so often, and between two trees at least."""


class ForestHyperparameters(AlgorithmSettings):
    """Settings of a forest."""

    trees: int = Field(default=100, ge=1, le=10_000, description="Trees in the forest.")
    max_depth: int | None = Field(
        default=None, ge=1, le=1000, description="Largest depth of a tree; empty grows it to the end."
    )
    min_rows_in_leaf: int = Field(
        default=1, ge=1, le=1_000_000, description="Fewest training rows in a leaf."
    )
    column_fraction: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the columns that a split chooses from; empty takes the square root of their "
        "number for classes, and all for values.",
    )
    class_weights: ClassWeights = "none"


USUAL_SEARCH: dict[str, SearchRange] = {
    "trees": {"kind": "choice", "choices": [50, 100, 200, 400]},
    "max_depth": {"kind": "int", "low": 3, "high": 24, "step": 3},
    "min_rows_in_leaf": {"kind": "int", "low": 1, "high": 10},
}


class Forest(ScikitLearnAlgorithm):
    """Base of the algorithms that take the mean of many trees."""

    problems = frozenset({Problem.TABLE_CLASSIFICATION, Problem.TABLE_REGRESSION})
    Hyperparameters = ForestHyperparameters
    usual_search = USUAL_SEARCH

    def fit(self, data: TrainingData, settings: AlgorithmSettings, context: FitContext) -> Fit:
        """Grow the trees part by part, each of them reported as an epoch: see `Algorithm.fit`.

        The trees are those of a forest that is grown at once: scikit-learn goes on with its random
        numbers where the last trees ended.
        """
        from tasks.train.models.scikit_learn import ScikitLearnModel

        assert isinstance(settings, ForestHyperparameters)
        import_estimators()
        self.refuse(data, settings)
        started = time.monotonic()
        estimator: Any = self.estimator(data.problem, settings, context.seed)
        estimator.set_params(warm_start=True)
        model = ScikitLearnModel(estimator, len(data.classes))
        parts = sorted({-(-settings.trees * part // PARTS) for part in range(1, PARTS + 1)})
        watched = "train" if data.validation is None else "validation"
        history: list[Metrics] = []
        ended = "finished"
        grown, at_once = 0, threads(context)
        while grown < settings.trees and ended == "finished":
            grown = min(grown + at_once, parts[len(history)])
            began = time.monotonic()
            estimator.set_params(n_estimators=grown)
            fitted_to_the_end(estimator, data, context)
            if time.monotonic() - began < HEARD_EVERY_S / 2:
                at_once *= 2
            if grown < settings.trees:
                if context.max_time_s and time.monotonic() - started >= context.max_time_s:
                    ended = "time limit"
                elif context.should_stop():
                    ended = "stopped"
            last = grown == settings.trees or ended != "finished"
            if last or grown == parts[len(history)]:
                history.append(scores_of(model, data, ("train", "validation") if last else (watched,)))
                context.report(len(history), len(parts), history[-1])
        estimator.set_params(warm_start=False)
        return Fit(model, tuple(history), len(history), ended, time.monotonic() - started)


def tree_parameters(problem: Problem, settings: ForestHyperparameters, seed: int) -> dict[str, Any]:
    """scikit-learn's own names of the settings."""
    usual = "sqrt" if problem.is_classification else 1.0
    named: dict[str, Any] = {
        "n_estimators": settings.trees,
        "max_depth": settings.max_depth,
        "min_samples_leaf": settings.min_rows_in_leaf,
        "max_features": settings.column_fraction or usual,
        "random_state": seed,
    }
    if problem.is_classification and settings.class_weights == "balanced":
        named["class_weight"] = "balanced"
    return named
