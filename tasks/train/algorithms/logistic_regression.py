"""Logistic regression."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.fields import ClassWeights
from tasks.train.algorithms.scikit_learn_algorithm import ScikitLearnAlgorithm
from tasks.train.algorithms.suitability import Characteristics, Suitability, linear_suitability

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator


class LogisticRegressionHyperparameters(AlgorithmSettings):
    """Settings of the regression."""

    inverse_penalty: float = Field(
        default=10.0,
        gt=0,
        le=1e6,
        description="Weight of the data against the penalty on large coefficients.",
    )
    l1_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the penalty that is on absolute coefficients, which leaves columns out: 0 is "
        "ridge, 1 is lasso, between them elastic net.",
    )
    class_weights: ClassWeights = "none"
    max_iterations: int = Field(default=1000, ge=1, le=1_000_000, description="Most steps of the solver.")


class LogisticRegression(ScikitLearnAlgorithm):
    """A linear score for each class, turned into probabilities."""

    name = "logistic_regression"
    title = "Logistic regression"
    summary = "Linear classifier; the one to beat on small, scaled tables, and the easiest to explain."
    problems = frozenset({Problem.TABLE_CLASSIFICATION})
    Hyperparameters = LogisticRegressionHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        "inverse_penalty": {"kind": "log", "low": 1e-3, "high": 1e3}
    }

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        return linear_suitability(data)

    def estimator(
        self, problem: Problem, settings: LogisticRegressionHyperparameters, seed: int
    ) -> BaseEstimator:
        """See `ScikitLearnAlgorithm.estimator`."""
        from sklearn.linear_model import LogisticRegression as Estimator

        return Estimator(
            C=settings.inverse_penalty,
            l1_ratio=settings.l1_share,
            # L-BFGS needs a smooth penalty; SAGA is the one solver of all three, for many classes.
            solver="saga" if settings.l1_share else "lbfgs",
            class_weight="balanced" if settings.class_weights == "balanced" else None,
            max_iter=settings.max_iterations,
            random_state=seed,
        )


ALGORITHMS = (LogisticRegression(),)
