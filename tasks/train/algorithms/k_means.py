"""K-means clustering."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from tasks.errors import InvalidData
from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.fit import Fit, FitContext, Metrics, TrainingData
from tasks.train.algorithms.one_call import FitOutOfTime, FitStopped, import_estimators, one_call
from tasks.train.algorithms.suitability import Characteristics, Suitability, suitability
from tasks.train.unlabelled_scores import clustering_scores

if TYPE_CHECKING:
    from tasks.train.algorithms.fit import Json
    from tasks.train.models.scikit_learn import ScikitLearnModel


FIRST_ROWS = 10_000


class KMeansHyperparameters(AlgorithmSettings):
    """Settings of the clustering."""

    clusters: int | None = Field(
        default=None,
        ge=2,
        le=1000,
        description="Clusters to find; empty tries every number from 2 and takes the one with the best "
        "silhouette.",
    )
    most_clusters: int = Field(
        default=10, ge=2, le=100, description="Largest number of clusters that is tried."
    )
    restarts: int = Field(
        default=5, ge=1, le=1000, description="Starts from other centres, of which the best is kept."
    )
    max_iterations: int = Field(
        default=300, ge=1, le=100_000, description="Most times that the centres of one start are moved."
    )


class KMeans:
    """Rows in groups around centres, each row with the nearest (Lloyd, 1957; k-means++ starts, 2007)."""

    name: ClassVar[str] = "k_means"
    title: ClassVar[str] = "K-means"
    summary: ClassVar[str] = "Groups of similar rows, around centres; scale the columns first."
    problems: ClassVar[frozenset[Problem]] = frozenset({Problem.TABLE_CLUSTERING})
    Hyperparameters: ClassVar[type[AlgorithmSettings]] = KMeansHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {"clusters": {"kind": "int", "low": 2, "high": 12}}

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        return suitability(2.5, f"groups {data.train_rows:,} rows by distance, whatever their number")

    def refuse(self, data: TrainingData, settings: AlgorithmSettings) -> None:
        """Nothing: see `Algorithm.refuse`."""

    def refit_settings(self, settings: AlgorithmSettings, best_epochs: Sequence[int]) -> AlgorithmSettings:
        """The same: see `Algorithm.refit_settings`."""
        return settings

    def fit(self, data: TrainingData, settings: AlgorithmSettings, context: FitContext) -> Fit:
        """Fit one number of clusters after the other, each reported as an epoch: see `Algorithm.fit`.

        The number is chosen by the silhouette of the training rows.

        Raises:
            FitStopped: It was stopped before the first number was tried.
            FitOutOfTime: Its time was up before that.
        """
        assert isinstance(settings, KMeansHyperparameters)
        inputs = np.asarray(data.train.inputs, dtype=np.float64)
        numbers = _numbers(inputs, settings)
        import_estimators()
        started = time.monotonic()
        history: list[Metrics] = []
        tried: list[Json] = []
        best, model, ended = 0, None, "finished"
        for epoch, clusters in enumerate(numbers, 1):
            try:
                candidate, metrics = one_call(
                    partial(_tried, data, clusters, settings, context.seed),
                    context,
                    float(inputs.size) * clusters * settings.restarts * settings.max_iterations,
                    used_s=time.monotonic() - started,
                )
            except (FitStopped, FitOutOfTime) as cut:
                if model is None:
                    raise
                ended = cut.ended
                break
            history.append(metrics)
            tried.append(
                {
                    "clusters": clusters,
                    "inertia": metrics["train_loss"] * len(inputs),
                    "silhouette": metrics["train_silhouette"],
                }
            )
            if model is None or metrics["train_silhouette"] > history[best - 1]["train_silhouette"]:
                best, model = epoch, candidate
            context.report(epoch, len(numbers), metrics)
            if epoch == len(numbers):
                break
            if context.max_time_s and time.monotonic() - started >= context.max_time_s:
                ended = "time limit"
            elif context.should_stop():
                ended = "stopped"
            if ended != "finished":
                break
        assert model is not None  # there is at least one number to try
        model.found = {"tried": tried}
        names = tuple(f"cluster {number}" for number in range(model.outputs))
        return Fit(model, tuple(history), best, ended, time.monotonic() - started, outputs=names)


ALGORITHMS = (KMeans(),)


def _numbers(inputs: np.ndarray, settings: KMeansHyperparameters) -> list[int]:
    """Numbers of clusters to try; as many as there are distinct rows at most.

    Raises:
        InvalidData: There are fewer distinct rows than clusters.
    """
    most = settings.clusters or settings.most_clusters
    # Sorting all rows would take longer than the fit; where the first are distinct enough, so are all.
    distinct = len(np.unique(inputs[:FIRST_ROWS], axis=0))
    if distinct <= most < len(inputs):
        distinct = len(np.unique(inputs, axis=0))
    if distinct < max(settings.clusters or 2, 2):
        raise InvalidData(
            f"{distinct:,} distinct training rows cannot be put into {settings.clusters or 2:,} clusters",
            where="split train",
            allowed="at least one distinct row for each cluster",
            mend="ask for fewer clusters, or add rows",
        )
    return [settings.clusters] if settings.clusters else list(range(2, min(most, max(2, distinct - 1)) + 1))


def _tried(
    data: TrainingData, clusters: int, settings: KMeansHyperparameters, seed: int
) -> tuple[ScikitLearnModel, Metrics]:
    """One number of clusters. Threads would add up their parts in any order, so there is one."""
    from sklearn.cluster import KMeans as Estimator
    from threadpoolctl import threadpool_limits

    from tasks.train.models.scikit_learn import ScikitLearnModel

    estimator: Any = Estimator(
        clusters, n_init=settings.restarts, max_iter=settings.max_iterations, random_state=seed
    )
    with threadpool_limits(limits=1):
        estimator.fit(np.asarray(data.train.inputs, dtype=np.float64))
    estimator.labels_ = estimator.labels_[:0]  # of the training rows, which the model need not carry
    model = ScikitLearnModel(estimator, clusters, gives="distances")
    metrics: Metrics = {"clusters": float(clusters)}
    for split, rows in (("train", data.train), ("validation", data.validation)):
        if rows is not None:
            values = np.asarray(rows.inputs, dtype=np.float64)
            metrics |= clustering_scores(split, values, model.predict(values))
    return model, metrics
