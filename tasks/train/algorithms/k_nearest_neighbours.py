"""K nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.errors import InvalidData, InvalidSettings
from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.fit import TrainingData
from tasks.train.algorithms.scikit_learn_algorithm import ScikitLearnAlgorithm
from tasks.train.algorithms.suitability import FEW_ROWS, WIDE, Characteristics, Suitability, suitability

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

MOST_VALUES = 50_000_000
"""The model is the training rows themselves: 400 MB of them, through which every question goes."""


class KNearestNeighboursHyperparameters(AlgorithmSettings):
    """Settings of the neighbours."""

    neighbours: int = Field(
        default=5, ge=1, le=10_000, description="Nearest training rows that a prediction is made of."
    )
    weighting: Literal["uniform", "distance"] = Field(
        default="uniform", description="distance gives nearer rows more weight; uniform gives all the same."
    )
    metric: Literal["euclidean", "manhattan", "cosine"] = Field(
        default="euclidean", description="How far two rows are apart."
    )


class KNearestNeighbours(ScikitLearnAlgorithm):
    """What the nearest training rows say."""

    name = "k_nearest_neighbours"
    title = "K nearest neighbours"
    summary = "Answers as the most similar training rows do; for small tables of few, scaled columns."
    problems = frozenset({Problem.TABLE_CLASSIFICATION, Problem.TABLE_REGRESSION})
    Hyperparameters = KNearestNeighboursHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        "neighbours": {"kind": "int", "low": 1, "high": 31, "step": 2},
        "weighting": {"kind": "choice", "choices": ["uniform", "distance"]},
    }

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        if data.columns > WIDE:
            return suitability(0.8, f"among {data.columns:,} columns all rows are far from each other")
        if data.train_rows < FEW_ROWS:
            return suitability(1.8, f"{data.train_rows:,} rows are soon compared with each other")
        return suitability(1.0, f"each answer goes through all {data.train_rows:,} rows")

    def refuse(self, data: TrainingData, settings: KNearestNeighboursHyperparameters) -> None:
        """See `ScikitLearnAlgorithm.refuse`."""
        rows, values = len(data.train), data.train.inputs.size
        if settings.neighbours > rows:
            raise InvalidSettings(
                f"{settings.neighbours:,} neighbours are asked for, and there are {rows:,} training rows",
                where="hyperparameter neighbours",
                allowed=f"1 to {rows:,}",
                mend="ask for fewer",
            )
        if values > MOST_VALUES:
            raise InvalidData(
                f"the model would hold all {rows:,} training rows, and go through them for every answer",
                where=f"{values:,} values",
                allowed=f"at most {MOST_VALUES:,} values",
                mend="take lightgbm, or train on fewer rows",
            )

    def operations(self, data: TrainingData, settings: KNearestNeighboursHyperparameters) -> float:
        """See `ScikitLearnAlgorithm.operations`: for the scores every row is compared with all others."""
        asked = len(data.train) + (0 if data.validation is None else len(data.validation))
        return float(data.train.inputs.size) * asked

    def estimator(
        self, problem: Problem, settings: KNearestNeighboursHyperparameters, seed: int
    ) -> BaseEstimator:
        """See `ScikitLearnAlgorithm.estimator`."""
        from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

        kind = KNeighborsClassifier if problem.is_classification else KNeighborsRegressor
        # Rows in a plain array: search trees are compiled objects, which no file of ours may hold.
        return kind(
            n_neighbors=settings.neighbours,
            weights=settings.weighting,
            metric=settings.metric,
            algorithm="brute",
        )


ALGORITHMS = (KNearestNeighbours(),)
