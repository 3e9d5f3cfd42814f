"""What the scikit-learn algorithms share: one call of `fit`, then scores of both splits."""

from __future__ import annotations

import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.fit import Fit, FitContext, Metrics, TrainingData
from tasks.train.algorithms.one_call import import_estimators, one_call
from tasks.train.algorithms.suitability import Characteristics, Suitability
from tasks.train.scores import split_scores

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

    from tasks.train.models.scikit_learn import ScikitLearnModel

OUT_OF_ITERATIONS = "iteration limit"
"""How a fit ended whose solver used up its iterations; the model is what it had by then."""


class ScikitLearnAlgorithm(ABC):
    """Base of the algorithms that are one scikit-learn estimator.

    A fit is one call into scikit-learn, which hears nothing before its end; `one_call` ends it all the
    same.
    """

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

    def refuse(self, data: TrainingData, settings: Any) -> None:
        """Refuse data that the estimator cannot be fitted to, before the fit starts.

        Raises:
            InvalidData: It cannot.
        """
        return

    def refit_settings(self, settings: AlgorithmSettings, best_epochs: Sequence[int]) -> AlgorithmSettings:
        """The same: see `Algorithm.refit_settings`."""
        return settings

    def learn(self, data: TrainingData, settings: Any, context: FitContext) -> tuple[ScikitLearnModel, bool]:
        """The fitted model, and whether its solver converged."""
        from tasks.train.models.scikit_learn import ScikitLearnModel

        estimator: Any = self.estimator(data.problem, settings, context.seed)
        converged = fitted_to_the_end(estimator, data, context)
        return ScikitLearnModel(estimator, len(data.classes)), converged

    def operations(self, data: TrainingData, settings: Any) -> float:
        """About how many operations a fit takes at most.

        Those of an iterative solver; without iterations, of the products of all columns with each other.
        """
        rounds: Any = getattr(settings, "max_iterations", data.train.inputs.shape[1])
        return float(data.train.inputs.size * data.outputs * rounds)

    def fit(self, data: TrainingData, settings: AlgorithmSettings, context: FitContext) -> Fit:
        """Fit the estimator once and report once: see `Algorithm.fit`.

        Raises:
            FitStopped: It was stopped: there is no model before the end.
            FitOutOfTime: Its time was up before the end.
        """
        self.refuse(data, settings)
        plain = FitContext(seed=context.seed, threads=context.threads)
        fit = one_call(partial(self._fit, data, settings, plain), context, self.operations(data, settings))
        context.report(1, 1, fit.best)
        return fit

    def _fit(self, data: TrainingData, settings: AlgorithmSettings, context: FitContext) -> Fit:
        import_estimators()
        started = time.monotonic()
        model, converged = self.learn(data, settings, context)
        ended = "finished" if converged else OUT_OF_ITERATIONS
        fit_time_s = time.monotonic() - started
        return Fit(model, (scores_of(model, data),), best_epoch=1, ended=ended, fit_time_s=fit_time_s)


def fitted_to_the_end(estimator: Any, data: TrainingData, context: FitContext) -> bool:
    """Fit with as many threads as there may be; whether the solver converged.

    What predicts later does so on one thread, since threads add up their parts in any order.
    """
    from joblib import parallel_config  # type: ignore[import-untyped]
    from sklearn.exceptions import ConvergenceWarning

    threaded = "n_jobs" in estimator.get_params(deep=False)
    if threaded:
        estimator.set_params(n_jobs=threads(context))
    # Threads: processes, which joblib would take for some fits, take a second to start, and stay behind.
    with parallel_config(backend="threading"), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        estimator.fit(data.train.inputs, data.train.labels)
    if threaded:
        estimator.set_params(n_jobs=None)
    return not any(issubclass(one.category, ConvergenceWarning) for one in heard)


def threads(context: FitContext) -> int:
    """Threads to fit with: those that were given, or what the process may use."""
    if context.threads:
        return context.threads
    here = len(os.sched_getaffinity(0))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(here, int(asked)) if asked.isdigit() and int(asked) > 0 else here


def scores_of(
    model: ScikitLearnModel, data: TrainingData, splits: Sequence[str] = ("train", "validation")
) -> Metrics:
    """Loss and headline metric of those splits that there are."""
    rows = {"train": data.train, "validation": data.validation}
    metrics: Metrics = {}
    for split in splits:
        part = rows[split]
        if part is not None:
            metrics |= split_scores(split, data.problem, part.labels, model.predict(part.inputs))
    return metrics
