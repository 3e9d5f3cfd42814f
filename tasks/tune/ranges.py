"""The space that a study searches: as set, or else what usually matters for the algorithm."""

from __future__ import annotations

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.train import algorithms
from tasks.tune.config import SearchDimension, TuneConfig


def resolve(config: TuneConfig, problem: Problem, rows: int) -> tuple[str, list[SearchDimension]]:
    """The algorithm and the space of a study, checked against the algorithm's own bounds.

    Args:
        config: The study.
        problem: What is to be learned.
        rows: Rows of the dataset version, which `auto` goes by.

    Raises:
        InvalidSettings: The algorithm cannot learn the problem, has no such hyperparameter, or cannot
            take an end of a range; or there is nothing to search.
    """
    algorithm = algorithms.choose(config.algorithm, problem, rows)
    space = config.search or [
        SearchDimension.model_validate({"name": name, **values})
        for name, values in algorithm.usual_search.items()
        if name not in config.hyperparameters
    ]
    if not space:
        raise InvalidSettings(
            f"There is nothing to search for {algorithm.title}",
            where="search",
            allowed=", ".join(algorithm.Hyperparameters.model_fields),
            mend="name hyperparameters to search, and leave them out of the fixed ones",
        )
    fixed = dict(config.hyperparameters)
    for ends in (_ends(space, 0), _ends(space, -1)):
        algorithms.settings(algorithm, {**fixed, **ends})
    for dimension in space:
        for choice in dimension.choices:
            algorithms.settings(algorithm, {**fixed, dimension.name: choice})
    return algorithm.name, space


def _ends(space: list[SearchDimension], end: int) -> dict[str, object]:
    ends: dict[str, object] = {}
    for dimension in space:
        if dimension.kind == "choice":
            ends[dimension.name] = dimension.choices[end]
        else:
            value = (dimension.low, dimension.high)[end]
            ends[dimension.name] = int(value or 0) if dimension.kind == "int" else value
    return ends
