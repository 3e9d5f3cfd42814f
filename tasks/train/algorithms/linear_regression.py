"""Linear regression by least squares with one of three penalties: ridge, lasso and elastic net."""

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
    """Settings of the ridge regression."""

    penalty: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="Weight of the penalty on large coefficients; 0 is plain least squares.",
    )


class LassoHyperparameters(AlgorithmSettings):
    """Settings of the lasso."""

    penalty: float = Field(
        default=0.01,
        gt=0,
        le=1e6,
        description="Weight of the penalty on coefficients, for a label in standard deviations: near 1 no "
        "scaled column is left.",
    )
    max_iterations: int = Field(default=10_000, ge=1, le=1_000_000, description="Most passes of the solver.")


class ElasticNetHyperparameters(LassoHyperparameters):
    """Settings of the elastic net."""

    l1_share: float = Field(
        default=0.5,
        ge=0.01,
        le=1,
        description="Share of the penalty that is on absolute coefficients, which leaves columns out; 1 is "
        "lasso.",
    )


class LinearRegression(ScikitLearnAlgorithm):
    """A weighted sum of the columns."""

    name = "linear_regression"
    title = "Linear regression (ridge)"
    summary = "Linear model of a value; the one to beat, and the easiest to explain."
    problems = frozenset({Problem.TABLE_REGRESSION})
    Hyperparameters: ClassVar[type[AlgorithmSettings]] = LinearRegressionHyperparameters
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


class Lasso(ScikitLearnAlgorithm):
    """A weighted sum of few columns: the penalty makes the weights of the others zero."""

    name = "lasso"
    title = "Lasso"
    summary = "Linear model of a value that chooses columns: most of many columns get no weight."
    problems = frozenset({Problem.TABLE_REGRESSION})
    Hyperparameters: ClassVar[type[AlgorithmSettings]] = LassoHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {"penalty": {"kind": "log", "low": 1e-4, "high": 1.0}}

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        linear = linear_suitability(data)
        return linear.model_copy(update={"score": round(linear.score - 0.1, 3)})

    def estimator(self, problem: Problem, settings: LassoHyperparameters, seed: int) -> BaseEstimator:
        """See `ScikitLearnAlgorithm.estimator`."""
        from sklearn.linear_model import ElasticNet as Estimator

        share = settings.l1_share if isinstance(settings, ElasticNetHyperparameters) else 1.0
        return of_scaled_label(
            Estimator(
                alpha=settings.penalty, l1_ratio=share, max_iter=settings.max_iterations, random_state=seed
            )
        )


class ElasticNet(Lasso):
    """Between ridge and lasso: columns that say the same share their weight."""

    name = "elastic_net"
    title = "Elastic net"
    summary = "Linear model of a value that chooses columns, and keeps those together that say the same."
    Hyperparameters: ClassVar[type[AlgorithmSettings]] = ElasticNetHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        "penalty": {"kind": "log", "low": 1e-4, "high": 1.0},
        "l1_share": {"kind": "float", "low": 0.1, "high": 1.0},
    }


def of_scaled_label(estimator: BaseEstimator) -> BaseEstimator:
    """The estimator of the label in standard deviations, so that settings mean the same in any unit."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler

    return TransformedTargetRegressor(estimator, transformer=StandardScaler(), check_inverse=False)


ALGORITHMS = (LinearRegression(), Lasso(), ElasticNet())
