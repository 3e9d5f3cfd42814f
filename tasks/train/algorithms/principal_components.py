"""Principal component analysis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.fit import Fit, FitContext, Json, Metrics, TrainingData
from tasks.train.algorithms.one_call import import_estimators, one_call
from tasks.train.algorithms.suitability import Characteristics, Suitability, suitability
from tasks.train.unlabelled_scores import reduction_scores

MOST_SHOWN = 100
"""Components whose share is kept with the model, for its figure."""


class PrincipalComponentsHyperparameters(AlgorithmSettings):
    """Settings of the analysis."""

    components: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Components to keep; empty keeps as many as explain the share of the variance.",
    )
    explained_percent: float = Field(
        default=95.0,
        gt=0,
        le=100,
        description="Share of the variance, in percent, that the components explain where their number is "
        "empty.",
    )
    whiten: bool = Field(default=False, description="Give every component the variance 1.")


class PrincipalComponents:
    """The directions in which rows differ most (Pearson, 1901; Hotelling, 1933)."""

    name: ClassVar[str] = "principal_components"
    title: ClassVar[str] = "Principal component analysis"
    summary: ClassVar[str] = "Few numbers for many columns: where the rows differ most; scale them first."
    problems: ClassVar[frozenset[Problem]] = frozenset({Problem.TABLE_DIMENSION_REDUCTION})
    Hyperparameters: ClassVar[type[AlgorithmSettings]] = PrincipalComponentsHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        "explained_percent": {"kind": "float", "low": 50.0, "high": 99.0}
    }

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        return suitability(2.5, f"finds the few directions in which {data.columns:,} columns differ")

    def refuse(self, data: TrainingData, settings: AlgorithmSettings) -> None:
        """Nothing: see `Algorithm.refuse`."""

    def refit_settings(self, settings: AlgorithmSettings, best_epochs: Sequence[int]) -> AlgorithmSettings:
        """The same: see `Algorithm.refit_settings`."""
        return settings

    def fit(self, data: TrainingData, settings: AlgorithmSettings, context: FitContext) -> Fit:
        """Find the components of the training rows, all at once: see `Algorithm.fit`."""
        assert isinstance(settings, PrincipalComponentsHyperparameters)
        rows, columns = data.train.inputs.shape
        most = min(rows, columns)
        if settings.components and settings.components > most:
            raise InvalidSettings(
                f"{settings.components:,} components are asked for, of {columns:,} columns in "
                f"{rows:,} training rows",
                where="hyperparameter components",
                allowed=f"1 to {most:,}",
                mend="ask for fewer, or leave it empty",
            )
        work = partial(_analysed, data, settings, context.seed)
        fit = one_call(work, context, operations=2.0 * data.train.inputs.size * columns)
        context.report(1, 1, fit.best)
        return fit


ALGORITHMS = (PrincipalComponents(),)


def _analysed(data: TrainingData, settings: PrincipalComponentsHyperparameters, seed: int) -> Fit:
    import_estimators()
    from sklearn.decomposition import PCA

    from tasks.train.models.scikit_learn import ScikitLearnModel

    started = time.monotonic()
    inputs = np.asarray(data.train.inputs, dtype=np.float64)
    # All of them, for the figure; those beyond the kept ones are dropped from the model.
    whole: Any = PCA(random_state=seed).fit(inputs)
    shares = np.nan_to_num(whole.explained_variance_ratio_)
    enough = int(np.searchsorted(np.cumsum(shares), settings.explained_percent / 100 - 1e-9)) + 1
    kept = settings.components or min(enough, min(inputs.shape))
    estimator: Any = PCA(kept, whiten=settings.whiten, random_state=seed).fit(inputs)
    found: dict[str, Json] = {"explained_variance_ratio": [float(share) for share in shares[:MOST_SHOWN]]}
    model = ScikitLearnModel(estimator, kept, gives="components", found=found)
    metrics: Metrics = {"components": float(kept)}
    for split, rows in (("train", data.train), ("validation", data.validation)):
        if rows is not None:
            values = np.asarray(rows.inputs, dtype=np.float64)
            restored = estimator.inverse_transform(estimator.transform(values))
            metrics |= reduction_scores(split, values, restored, estimator.mean_)
    names = tuple(f"component {number}" for number in range(1, kept + 1))
    return Fit(model, (metrics,), 1, "finished", time.monotonic() - started, outputs=names)
