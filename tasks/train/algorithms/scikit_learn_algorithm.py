"""What the scikit-learn algorithms share: one call of `fit`, then scores of both splits."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, Fit, FitContext, SearchRange, TrainingData
from tasks.train.algorithms.suitability import Characteristics, Suitability
from tasks.train.scores import split_scores

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator


class ScikitLearnAlgorithm(ABC):
    """Base of the algorithms that are one scikit-learn estimator."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    problems: ClassVar[frozenset[Problem]]
    Hyperparameters: ClassVar[type[AlgorithmSettings]]
    usual_search: ClassVar[dict[str, SearchRange]]

    @abstractmethod
    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""

    @abstractmethod
    def estimator(self, problem: Problem, settings: Any, seed: int) -> BaseEstimator:
        """Build the unfitted estimator."""

    def refit_settings(self, settings: AlgorithmSettings, best_epochs: Sequence[int]) -> AlgorithmSettings:
        """The same: see `Algorithm.refit_settings`."""
        return settings

    def fit(self, data: TrainingData, settings: AlgorithmSettings, context: FitContext) -> Fit:
        """Fit the estimator once and report once: see `Algorithm.fit`."""
        from tasks.train.models.scikit_learn import ScikitLearnModel

        started = time.monotonic()
        estimator: Any = self.estimator(data.problem, settings, context.seed)
        estimator.fit(data.train.inputs, data.train.labels)
        model = ScikitLearnModel(estimator, len(data.classes))
        fit_time_s = time.monotonic() - started
        metrics = split_scores("train", data.problem, data.train.labels, model.predict(data.train.inputs))
        if data.validation is not None:
            scores = model.predict(data.validation.inputs)
            metrics |= split_scores("validation", data.problem, data.validation.labels, scores)
        context.report(1, 1, metrics)
        return Fit(model, (metrics,), best_epoch=1, ended="finished", fit_time_s=fit_time_s)
