"""Linear regression with a ridge penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.scikit_learn_algorithm import ScikitLearnAlgorithm
from tasks.train.algorithms.suitability import Characteristics, Suitability, linear_suitability

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator


class LinearRegressionHyperparameters(AlgorithmSettings):
    """Settings of the regression."""

    penalty: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="Weight of the penalty on large coefficients; 0 is plain least squares.",
    )


class LinearRegression(ScikitLearnAlgorithm):
    """A weighted sum of the columns."""

    name = "linear_regression"
    title = "Linear regression (ridge)"
    summary = "Linear model of a value; the one to beat, and the easiest to explain."
    problems = frozenset({Problem.TABLE_REGRESSION})
    Hyperparameters = LinearRegressionHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {"penalty": {"kind": "log", "low": 1e-3, "high": 1e3}}

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        return linear_suitability(data)

    def estimator(
        self, problem: Problem, settings: LinearRegressionHyperparameters, seed: int
    ) -> BaseEstimator:
        """See `ScikitLearnAlgorithm.estimator`."""
        from sklearn.linear_model import Ridge

        return Ridge(alpha=settings.penalty, random_state=seed)


ALGORITHMS = (LinearRegression(),)
