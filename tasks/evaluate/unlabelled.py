"""What is measured where no label says what is right: the shape of clusters, what components keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.evaluate.measures import Measured
from tasks.refs import Problem
from tasks.train.model_inputs import stack_table
from tasks.train.unlabelled_scores import explained_variance, nearest, silhouettes, squares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.data.read import RawSplit
    from tasks.train.bundle import Bundle
    from tasks.train.models.scikit_learn import ScikitLearnModel

MOST_POINTS = 2_000
MOST_COMPONENTS, MOST_INPUTS = 8, 30
"""Of a figure's table of loadings; more could not be read."""
BOOTSTRAP_SAMPLES = 1_000

Point = tuple[float, float]


class Part(BaseModel):
    """Base of what is kept of these evaluations."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tried(Part):
    """One number of clusters that the training tried, measured on its rows."""

    clusters: int
    inertia: float = Field(description="Sum of the squared distances to the nearest centres.")
    silhouette: float


class Clusters(Part):
    """What a clustering makes of the evaluated rows."""

    sizes: list[int] = Field(description="Rows of each cluster.")
    tried: list[Tried] = Field(description="Numbers of clusters that were tried; one where it was given.")
    points: list[Point] = Field(description="Up to 2,000 rows on the two directions of most variance.")
    of: list[int] = Field(description="The cluster of each of these rows.")
    centres: list[Point] = Field(description="The clusters' centres on the same directions.")
    shares: Point = Field(description="Share of the rows' variance along each direction.")


class Components(Part):
    """What principal components make of the evaluated rows."""

    ratios: list[float] = Field(
        description="Share of the training rows' variance that each component explains, kept or not."
    )
    kept: int
    inputs: list[str] = Field(description="Columns with the largest loadings, in the order of the table.")
    loadings: list[list[float]] = Field(
        description="Weight of each of these columns in the first components: by component, then column."
    )
    points: list[Point] = Field(
        description="Up to 2,000 rows on the first two components; the second is 0 where there is one."
    )


def measure_unlabelled(bundle: Bundle, raw: RawSplit, scores: NDArray[np.float32]) -> Measured:
    """Measure clusters or components.

    Args:
        bundle: The model.
        raw: The rows as they were ingested.
        scores: What the model gave for them: distances `[n, clusters]` or components `[n, components]`.
    """
    assert raw.table is not None  # only tables have problems without a label
    names = [feature.name for feature in bundle.features]
    inputs = stack_table(bundle.preprocessing.table(raw.table[names]), bundle.description.inputs)
    if bundle.problem is Problem.TABLE_CLUSTERING:
        return _clustering(bundle, inputs, scores)
    return _reduction(bundle, inputs, scores)


def _clustering(bundle: Bundle, inputs: NDArray[np.float64], distances: NDArray[np.float32]) -> Measured:
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

    clusters = nearest(distances)
    by_row = silhouettes(inputs, clusters)
    inertia = float(np.square(distances.min(axis=1), dtype=np.float64).sum())
    metrics = {
        "silhouette": float(by_row.mean()),
        "inertia": inertia,
        "distance": float(distances.min(axis=1).mean()),
    }
    if 2 <= len(np.unique(clusters)) < len(inputs):
        metrics["davies_bouldin"] = float(davies_bouldin_score(inputs, clusters))
        metrics["calinski_harabasz"] = float(calinski_harabasz_score(inputs, clusters))
    sizes = np.bincount(clusters, minlength=distances.shape[1]).tolist()
    model = cast("ScikitLearnModel", bundle.model)
    mean, axes, shares = _directions(inputs)
    shown = _spread(len(inputs))
    details = Clusters(
        sizes=sizes,
        tried=[Tried.model_validate(one) for one in cast("list[Any]", model.found.get("tried", []))],
        points=_points((inputs[shown] - mean) @ axes),
        of=clusters[shown].tolist(),
        centres=_points((np.asarray(model.estimator.cluster_centers_) - mean) @ axes),
        shares=shares,
    )
    interval = _interval(by_row, np.ones(len(by_row)))
    return Measured(clusters, metrics, {"clusters": details}, interval)


def _reduction(bundle: Bundle, inputs: NDArray[np.float64], components: NDArray[np.float32]) -> Measured:
    model = cast("ScikitLearnModel", bundle.model)
    estimator = model.estimator
    restored = estimator.inverse_transform(components.astype(np.float64))
    errors, spread = squares(inputs, restored, estimator.mean_)
    value = explained_variance(errors, spread)
    metrics = {
        "explained_variance": value,
        "reconstruction_error": float(np.sqrt(errors.mean() / inputs.shape[1])),
        "components": float(components.shape[1]),
    }
    loadings = np.asarray(estimator.components_)[:MOST_COMPONENTS]
    largest = np.sort(np.argsort(-np.abs(loadings).max(axis=0), kind="stable")[:MOST_INPUTS])
    points = components[_spread(len(components)), :2].astype(np.float64)
    details = Components(
        ratios=cast("list[float]", model.found.get("explained_variance_ratio", [])),
        kept=components.shape[1],
        inputs=[bundle.description.inputs[place] for place in largest],
        loadings=loadings[:, largest].tolist(),
        points=_points(np.pad(points, ((0, 0), (0, 2 - points.shape[1])))),
    )
    low, high = _interval(errors, spread)
    return Measured(None, metrics, {"components": details}, (1 - high, 1 - low))


def _directions(
    inputs: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], Point]:
    """The mean, the two directions of most variance as columns `[columns, 2]`, and their shares of it."""
    from sklearn.decomposition import PCA

    found = PCA(min(2, *inputs.shape), random_state=0).fit(inputs)
    axes = np.zeros((inputs.shape[1], 2))
    axes[:, : found.n_components_] = found.components_.T
    shares = [*np.nan_to_num(found.explained_variance_ratio_).tolist(), 0.0]
    return np.asarray(found.mean_), axes, (shares[0], shares[1])


def _interval(parts: NDArray[np.float64], weights: NDArray[np.float64], seed: int = 0) -> Point:
    """95 % interval of the sum of the parts over that of the weights, by drawing rows again."""
    random = np.random.default_rng(seed)
    ratios = []
    for _ in range(BOOTSTRAP_SAMPLES):
        rows = random.integers(0, len(parts), len(parts))
        whole = weights[rows].sum()
        ratios.append(parts[rows].sum() / whole if whole else 0.0)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


def _spread(rows: int) -> NDArray[np.int64]:
    """Up to `MOST_POINTS` row numbers, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, MOST_POINTS)).round()).astype(np.int64)


def _points(places: NDArray[np.float64]) -> list[Point]:
    return [(round(float(x), 6), round(float(y), 6)) for x, y in places]
