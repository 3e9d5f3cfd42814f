"""The catalogue: every algorithm by its name.

A module of this package that has `ALGORITHMS`, a tuple, adds them to the catalogue. Nothing else is to
be done for a new one. Algorithm files import their libraries only when they fit; the step cache sees
all of them, since a package that a step reaches stands for all that it holds.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import Any

from pydantic import ValidationError

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.train.algorithms.algorithm import Algorithm, AlgorithmSettings
from tasks.train.algorithms.network_algorithm import ImageHyperparameters, NetworkHyperparameters


def _found() -> dict[str, Algorithm]:
    """The algorithms of all modules here, in the order of the modules' names."""
    found: dict[str, Algorithm] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        members = importlib.import_module(f"{__name__}.{module.name}")
        for algorithm in getattr(members, "ALGORITHMS", ()):
            if algorithm.name in found:
                raise ValueError(f"two algorithms are called {algorithm.name}")
            found[algorithm.name] = algorithm
    return found


CATALOGUE: dict[str, Algorithm] = _found()

SMALL_TABLE_ROWS = 1000


def default(problem: Problem, rows: int) -> str:
    """What `auto` stands for: a sound choice without any tuning.

    On small tables a linear model errs less than trees do, which have too few rows to split.

    Args:
        problem: What is to be learned.
        rows: Rows of the dataset version.

    Raises:
        InvalidSettings: No algorithm of the catalogue learns the problem.
    """
    if not names(problem):
        learned = sorted({known.value for algorithm in CATALOGUE.values() for known in algorithm.problems})
        raise InvalidSettings(
            f"no algorithm of the catalogue learns {problem.value} yet",
            where="problem of the dataset",
            allowed=", ".join(learned),
            mend="export the dataset, and train on it with code of your own",
        )
    if problem is Problem.TABLE_CLUSTERING:
        return "k_means"
    if problem is Problem.TABLE_DIMENSION_REDUCTION:
        return "principal_components"
    if problem is Problem.IMAGE_CLASSIFICATION:
        return "six_layer_cnn"
    if rows >= SMALL_TABLE_ROWS:
        return "lightgbm"
    return "logistic_regression" if problem.is_classification else "linear_regression"


def names(problem: Problem | None = None) -> list[str]:
    """Names of the algorithms, of all or of those that can learn a problem."""
    return [a.name for a in CATALOGUE.values() if problem is None or problem in a.problems]


def get(name: str, problem: Problem | None = None) -> Algorithm:
    """Look an algorithm up.

    Args:
        name: Its name; what `auto` stands for, `choose` knows.
        problem: The problem that it must be able to learn.

    Raises:
        InvalidSettings: There is no such algorithm, or it cannot learn the problem.
    """
    algorithm = CATALOGUE.get(name)
    if algorithm is None:
        near = difflib.get_close_matches(name, CATALOGUE, n=1)
        raise InvalidSettings(
            f"there is no algorithm '{name}'",
            where="algorithm",
            allowed=", ".join(names(problem)),
            mend=f"did you mean '{near[0]}'?" if near else "take one of these",
        )
    if problem is not None and problem not in algorithm.problems:
        raise InvalidSettings(
            f"{algorithm.title} cannot learn {problem}",
            where="algorithm",
            allowed=", ".join(names(problem)) or "no algorithm of the catalogue learns it yet",
            mend="take one of these"
            if names(problem)
            else "export the dataset, and train on it with own code",
        )
    return algorithm


def choose(name: str, problem: Problem, rows: int) -> Algorithm:
    """The algorithm of that name, or for `auto` the default for a dataset version.

    Args:
        name: Its name, or `auto`.
        problem: What is to be learned.
        rows: Rows of the dataset version.

    Raises:
        InvalidSettings: There is no such algorithm, or it cannot learn the problem.
    """
    return get(default(problem, rows) if name == "auto" else name, problem)


def hyperparameter_help() -> str:
    """The hyperparameters of every algorithm, by name: for the help of a form.

    Those that networks share are said once, before those that an algorithm has of its own.
    """
    loop, images = NetworkHyperparameters.model_fields, ImageHyperparameters.model_fields
    told = {
        "networks": list(loop),
        "networks for images besides": [name for name in images if name not in loop],
    }
    for name, algorithm in CATALOGUE.items():
        settings = algorithm.Hyperparameters
        shared = next(
            (
                base.model_fields
                for base in (ImageHyperparameters, NetworkHyperparameters)
                if issubclass(settings, base)
            ),
            {},
        )
        told[name] = [field for field in settings.model_fields if field not in shared]
    return "; ".join(f"{who}: {', '.join(names)}" for who, names in told.items() if names)


def settings(algorithm: Algorithm, values: dict[str, Any]) -> AlgorithmSettings:
    """Check hyperparameters against an algorithm and fill in its defaults.

    Raises:
        InvalidSettings: Names every hyperparameter that is unknown, out of range or not finite.
    """
    try:
        return algorithm.Hyperparameters.model_validate(values)
    except ValidationError as error:
        known = algorithm.Hyperparameters.model_fields
        faults = []
        for fault in error.errors():
            name = ".".join(map(str, fault["loc"]))
            if fault["type"] == "extra_forbidden":
                near = difflib.get_close_matches(name, known, n=1)
                faults.append(f"'{name}' is unknown" + (f" (did you mean '{near[0]}'?)" if near else ""))
            else:
                message = fault["msg"][:1].lower() + fault["msg"][1:]
                faults.append(f"'{name}' is {fault['input']!r}: {message}")
        raise InvalidSettings(
            f"{algorithm.title} cannot take these hyperparameters: " + "; ".join(faults),
            where="hyperparameters",
            allowed=", ".join(known),
            mend="change them, or leave them out for their defaults",
        ) from error
