"""The space that a study searches: as set, or else what usually matters for the algorithm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from tasks.errors import InvalidSettings, TrainyardError, noted, raise_all
from tasks.refs import Problem
from tasks.train import algorithms
from tasks.train.algorithms.algorithm import Algorithm, Value
from tasks.train.algorithms.network_algorithm import TRANSFORMERS_NAMES
from tasks.tune import points
from tasks.tune.config import SearchDimension, TuneConfig, refuse_conditions
from tasks.tune.records import metric_names, objective

OTHER_NAMES = {**TRANSFORMERS_NAMES, "lr": "learning_rate", "batch_size": "batch_size_per_rank"}
"""Hyperparameters under names that scripts and other systems give them."""

MOST_WHOLE_NUMBERS = 64
WIDEST_SPAN = 200.0
LOG_FROM_RATIO = 1000.0

METRIC_RANGES = {
    "accuracy": (0.0, 1.0),
    "silhouette": (-1.0, 1.0),
    "explained_variance": (0.0, 1.0),
    "loss": (0.0, math.inf),
    "rmse": (0.0, math.inf),
}
"""Smallest and largest value of what trainings report."""


def resolve(config: TuneConfig, problem: Problem, rows: int) -> tuple[str, list[SearchDimension]]:
    """The algorithm and the space of a study, checked against the algorithm's own bounds.

    Args:
        config: The study.
        problem: What is to be learned.
        rows: Rows of the dataset version, which `auto` goes by.

    Raises:
        InvalidSettings: The algorithm cannot learn the problem, has no such hyperparameter, or cannot
            take an end of a range; there is nothing to search, or a grid without an end; or the metrics
            or the goal cannot be.
    """
    refuse_objective(config, problem)
    algorithm = algorithms.choose(config.algorithm, problem, rows)
    ticked = config.search or [
        SearchDimension(name=name) for name in algorithm.usual_search if name not in config.hyperparameters
    ]
    if not ticked:
        raise InvalidSettings(
            f"There is nothing to search for {algorithm.title}",
            where="search",
            allowed=", ".join(algorithm.Hyperparameters.model_fields),
            mend="name hyperparameters to search, and leave them out of the fixed ones",
        )
    faults: list[TrainyardError] = []
    space: list[SearchDimension] = []
    for dimension in ticked:
        with noted(faults):
            ranged = _ranged(_renamed(dimension, algorithm), algorithm)
            if ranged.name in (*config.hyperparameters, *(before.name for before in space)):
                raise InvalidSettings(
                    f"The name {dimension.name} stands for {ranged.name}, which is named already",
                    where="search",
                    mend="name it once",
                )
            space.append(ranged)
            for value in ranged.choices or _ends(ranged):
                algorithms.settings(algorithm, {**config.hyperparameters, ranged.name: value})
    raise_all(faults)
    try:
        refuse_conditions(space)
    except ValueError as error:
        raise InvalidSettings(str(error), where="search") from error
    if config.searcher == "grid":
        points.refuse_grid(space)
    return algorithm.name, space


def refuse_objective(config: TuneConfig, problem: Problem) -> None:
    """Refuse metrics that no training reports, and a direction or a goal on the wrong side.

    Raises:
        InvalidSettings: Says which, and what is allowed.
    """
    metric, mode = objective(problem, config.metric)
    reported = metric_names(problem, ["train", "validation"])
    for field, names in (("metric", [metric]), ("metrics", config.metrics)):
        for name in names:
            if name not in reported:
                raise InvalidSettings(
                    f"Trainings for {problem.value} report no {name}",
                    where=field,
                    allowed=", ".join(reported),
                    mend="choose one of these",
                )
    if config.mode not in (None, mode):
        raise InvalidSettings(
            f"The metric {metric} is better the {'larger' if mode == 'max' else 'smaller'} it is",
            where="mode",
            allowed=mode,
            mend="leave mode empty, or choose another metric",
        )
    if config.goal is None:
        return
    low, high = next(
        (ends for score, ends in METRIC_RANGES.items() if metric.endswith(score)), (-math.inf, math.inf)
    )
    never = config.goal > high if mode == "max" else config.goal < low
    always = config.goal <= low if mode == "max" else config.goal >= high
    if never or always:
        raise InvalidSettings(
            f"No {metric} can reach the goal {config.goal:g}"
            if never
            else f"Any {metric} reaches the goal {config.goal:g}",
            where="goal",
            allowed=f"above {low:g}, at most {high:g}" if mode == "max" else f"at least {low:g}",
            mend="change it, or leave it empty to run all trials",
        )


def _renamed(dimension: SearchDimension, algorithm: Algorithm) -> SearchDimension:
    """With the names that the algorithm has for it and for what it depends on."""

    def ours(name: str) -> str:
        other = OTHER_NAMES.get(name, name)
        known = algorithm.Hyperparameters.model_fields
        return other if name not in known and other in known else name

    condition = dimension.only_if
    if condition is not None:
        condition = condition.model_copy(update={"name": ours(condition.name)})
    return dimension.model_copy(update={"name": ours(dimension.name), "only_if": condition})


def _ranged(dimension: SearchDimension, algorithm: Algorithm) -> SearchDimension:
    """With a range: its own, the usual one of the algorithm, or one from the hyperparameter's bounds."""
    if dimension.kind != "usual":
        return dimension
    name = dimension.name
    found: Mapping[str, Any] | None = algorithm.usual_search.get(name)
    if found is None:
        field = algorithm.Hyperparameters.model_fields.get(name)
        if field is None:
            algorithms.settings(algorithm, {name: 0})  # raises: says which there are
        found = _from_bounds(field.annotation, field.metadata) if field is not None else None
    if found is None:
        raise InvalidSettings(
            f"{algorithm.title} has no usual range of {name}, and its bounds are too wide to search",
            where=f"search: {name}",
            allowed=", ".join(algorithm.usual_search),
            mend="give kind, low and high, or a list of choices",
        )
    return SearchDimension.model_validate({"name": name, "only_if": dimension.only_if, **found})


def _from_bounds(annotation: Any, metadata: list[Any]) -> dict[str, Any] | None:
    """A range from what a hyperparameter can be; None where that would be no sensible search.

    An end that is excluded itself is moved in by a hundredth of the span.
    """
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) is Literal:
        return {"kind": "choice", "choices": kinds}
    kind = kinds[0] if kinds else annotation
    if kind is bool:
        return {"kind": "choice", "choices": [False, True]}
    low = next(
        (one.ge if isinstance(one, Ge) else one.gt for one in metadata if isinstance(one, Ge | Gt)), None
    )
    high = next(
        (one.le if isinstance(one, Le) else one.lt for one in metadata if isinstance(one, Le | Lt)), None
    )
    if kind not in (int, float) or low is None or high is None:
        return None
    low, high = float(low), float(high)  # type: ignore[arg-type]  # bounds of numbers are numbers
    if kind is int:
        return {"kind": "int", "low": low, "high": high} if high - low <= MOST_WHOLE_NUMBERS else None
    if high - low > WIDEST_SPAN:
        return None
    margin = (high - low) / 100
    if any(isinstance(one, Gt) for one in metadata):
        low += margin
    if any(isinstance(one, Lt) for one in metadata):
        high -= margin
    logarithmic = low > 0 and high / low > LOG_FROM_RATIO
    return {"kind": "log" if logarithmic else "float", "low": low, "high": high}


def _ends(dimension: SearchDimension) -> list[Value]:
    return [int(end) if dimension.kind == "int" else end for end in dimension.ends]
