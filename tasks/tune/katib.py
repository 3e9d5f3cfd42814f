"""Experiments in the form of Katib, as settings of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tasks.errors import InvalidSettings

SEARCHERS = {
    "random": "random",
    "grid": "grid",
    "tpe": "tpe",
    "bayesianoptimization": "tpe",
    "cmaes": "evolution",
}
"""Our searchers by Katib's names; those of the same kind, where there is not the same."""

SCORES = ("loss", "accuracy", "rmse", "silhouette", "explained_variance")
SPLITS = ("validation", "train")

_SPEC = {
    "parameters", "objective", "algorithm", "parallelTrialCount", "maxTrialCount", "maxFailedTrialCount",
    "earlyStopping", "trialTemplate",
}  # fmt: skip
_WHOLE = {"apiVersion", "kind", "metadata", "spec"}
_OURS_ALONE = "leave it out, and say it with the fields of the form"


def move_katib(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a study with those of an experiment of Katib among them moved to their fields.

    Args:
        values: Settings as they were given: with a `katib` document, or parts of one in their place.
        defaults: The defaults of the fields, which a form sends along.

    Raises:
        InvalidSettings: The document cannot be honoured, or contradicts a field.
    """
    pasted = {name: value for name, value in values.items() if name in (_SPEC | _WHOLE) - {"algorithm"}}
    if isinstance(values.get("algorithm"), Mapping):
        pasted["algorithm"] = values["algorithm"]
    given = {name: value for name, value in values.items() if name not in pasted}
    document = given.pop("katib", None)
    if document is not None and pasted:
        raise _refused(", ".join(pasted), "is given beside katib", mend="put all of it into katib")
    if document is None and not pasted:
        return dict(values)
    found = settings(document if document is not None else pasted)
    for name, value in found.items():
        own = given.get(name)
        if own not in (None, [], {}) and own not in (value, defaults.get(name)):
            raise InvalidSettings(
                f"The form has {own!r} for {name}, and the experiment of Katib has {value!r}",
                where=f"katib and {name}",
                mend="say it in one of the two places",
            )
    return {**given, **found}


def settings(document: Any) -> dict[str, Any]:
    """Fields of a `TuneConfig` from an experiment of Katib, or from its spec.

    Numbers may be text, as Katib has them. The trial template is passed over: what trains is the
    algorithm of the study.

    Raises:
        InvalidSettings: Names the part that cannot be honoured.
    """
    document = _part(document, "katib")
    if "spec" in document:
        _only(document, _WHOLE, "katib")
        if document.get("kind", "Experiment") != "Experiment":
            raise _refused("kind", f"is {document['kind']!r}", allowed="Experiment")
        document = _part(document["spec"], "spec")
    _only(document, _SPEC | _WHOLE, "spec")
    parameters = document.get("parameters")
    if not isinstance(parameters, list) or not parameters:
        raise _refused("parameters", "must be a list of at least one")
    found: dict[str, Any] = {
        "search": [_dimension(one, f"parameters[{place}]") for place, one in enumerate(parameters)],
        "scheduler": "none",
    }
    for theirs, ours, least in (
        ("parallelTrialCount", "max_parallel", 1),
        ("maxTrialCount", "max_trials", 1),
        ("maxFailedTrialCount", "max_failed", 0),
    ):
        if document.get(theirs) is not None:
            found[ours] = _whole(document[theirs], theirs, least)
    if document.get("objective") is not None:
        found |= _objective(_part(document["objective"], "objective"))
    if document.get("algorithm") is not None:
        found |= _algorithm(_part(document["algorithm"], "algorithm"))
    if document.get("earlyStopping") is not None:
        found |= _early_stopping(_part(document["earlyStopping"], "earlyStopping"))
    return found


def _dimension(parameter: Any, where: str) -> dict[str, Any]:
    parameter = _part(parameter, where)
    _only(parameter, {"name", "parameterType", "feasibleSpace"}, where)
    name = parameter.get("name")
    if not isinstance(name, str) or not name.strip("-"):
        raise _refused(f"{where}.name", f"is {name!r}", allowed="the name of a hyperparameter")
    kind, where = parameter.get("parameterType"), f"feasibleSpace of {name}"
    if kind not in ("int", "double", "discrete", "categorical"):
        allowed = "int, double, discrete, categorical"
        raise _refused(f"parameterType of {name}", f"is {kind!r}", allowed=allowed)
    space = {
        key: value
        for key, value in _part(parameter.get("feasibleSpace"), where).items()
        if value not in (None, "", [])
    }
    _only(space, {"min", "max", "step", "list", "distribution"}, where)
    dimension: dict[str, Any] = {"name": name.lstrip("-").replace("-", "_")}
    if "list" in space:
        beside = sorted(set(space) - {"list"})
        if beside:
            raise _refused(where, f"has {', '.join(beside)} beside a list", mend="give one of the two")
        if not isinstance(space["list"], list):
            raise _refused(f"list in the {where}", f"is {space['list']!r}", allowed="a list of values")
        choices = space["list"]
        if kind != "categorical":
            choices = [_number(value, f"list in the {where}", whole=kind == "int") for value in choices]
        if kind == "discrete" and all(value == int(value) for value in choices):
            choices = [int(value) for value in choices]
        return {**dimension, "kind": "choice", "choices": choices}
    if kind in ("discrete", "categorical"):
        raise _refused(where, "has no list", allowed=f"a list of values, as it is {kind}")
    for end in ("min", "max"):
        if end not in space:
            raise _refused(where, f"has no {end}", allowed="min and max, or a list")
    distribution = space.pop("distribution", "uniform")
    if distribution not in ("uniform", "logUniform"):
        allowed = "uniform, logUniform"
        raise _refused(f"distribution in the {where}", f"is {distribution!r}", allowed=allowed)
    numbers = {
        key: _number(value, f"{key} in the {where}", whole=kind == "int") for key, value in space.items()
    }
    logarithmic = distribution == "logUniform"
    if logarithmic and (kind == "int" or "step" in numbers):
        fault = "is logUniform with a step" if "step" in numbers else "is logUniform for whole numbers"
        raise _refused(f"distribution in the {where}", fault, mend="give a list of the values to try")
    dimension["kind"] = "log" if logarithmic else "int" if kind == "int" else "float"
    dimension |= {"low": numbers["min"], "high": numbers["max"]}
    return dimension | ({"step": numbers["step"]} if "step" in numbers else {})


def _objective(objective: dict[str, Any]) -> dict[str, Any]:
    known = {"type", "goal", "objectiveMetricName", "additionalMetricNames", "metricStrategies"}
    _only(objective, known, "objective")
    if objective.get("type") not in ("maximize", "minimize"):
        allowed = "maximize, minimize"
        raise _refused("type of the objective", f"is {objective.get('type')!r}", allowed=allowed)
    best = objective["type"][:3]
    metric = objective.get("objectiveMetricName")
    if not isinstance(metric, str) or not metric:
        raise _refused("objectiveMetricName", f"is {metric!r}", allowed="the name of a metric")
    for strategy in objective.get("metricStrategies") or []:
        if strategy != {"name": metric, "value": best}:
            allowed = f"{best} for {metric}: a trial counts at its best"
            raise _refused("metricStrategies", f"has {strategy!r}", allowed=allowed)
    found: dict[str, Any] = {"mode": best, "metric": metric_of(metric)}
    if objective.get("goal") is not None:
        found["goal"] = _number(objective["goal"], "goal of the objective")
    further = objective.get("additionalMetricNames") or []
    if not isinstance(further, list) or not all(isinstance(name, str) for name in further):
        raise _refused("additionalMetricNames", f"is {further!r}", allowed="a list of names of metrics")
    if further:
        names = dict.fromkeys(metric_of(name) for name in further)
        found["metrics"] = [name for name in names if name != found["metric"]]
    return found


def _algorithm(algorithm: dict[str, Any]) -> dict[str, Any]:
    _only(algorithm, {"algorithmName", "algorithmSettings"}, "algorithm")
    name = algorithm.get("algorithmName")
    if name not in SEARCHERS:
        mend = (
            "take random with ASHA, a scheduler of the form" if name == "hyperband" else "take one of these"
        )
        raise _refused("algorithmName", f"is {name!r}", allowed=", ".join(SEARCHERS), mend=mend)
    found: dict[str, Any] = {"searcher": SEARCHERS[name]}
    given = _named_values(algorithm, {"random_state"}, f"algorithmSettings of {name}")
    if "random_state" in given:
        found["seed"] = _whole(given["random_state"], "random_state", 0)
    return found


def _early_stopping(stopping: dict[str, Any]) -> dict[str, Any]:
    _only(stopping, {"algorithmName", "algorithmSettings"}, "earlyStopping")
    name = stopping.get("algorithmName")
    if name != "medianstop":
        raise _refused("algorithmName of earlyStopping", f"is {name!r}", allowed="medianstop")
    given = _named_values(stopping, {"min_trials_required", "start_step"}, "algorithmSettings of medianstop")
    found: dict[str, Any] = {"scheduler": "median"}
    if "min_trials_required" in given:
        found["min_trials"] = _whole(given["min_trials_required"], "min_trials_required", 1)
    if "start_step" in given:
        found["grace_epochs"] = _whole(given["start_step"], "start_step", 1)
    return found


def metric_of(name: str) -> str:
    """Our name of a metric, where it is one of ours: `Validation-accuracy`, and `loss` for validation."""
    plain = name.lower().replace("-", "_")
    if plain in SCORES:
        return f"validation_{plain}"
    return plain if plain in {f"{split}_{score}" for split in SPLITS for score in SCORES} else name


def _named_values(part: dict[str, Any], known: set[str], where: str) -> dict[str, Any]:
    given = part.get("algorithmSettings") or []
    if not isinstance(given, list) or not all(isinstance(one, Mapping) and "name" in one for one in given):
        raise _refused(where, f"is {given!r}", allowed="a list of name and value")
    found = {str(one["name"]): one.get("value") for one in given}
    _only(found, known, where)
    return found


def _part(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refused(where, f"is {value!r}", allowed="an object with names and values")
    return {str(name): one for name, one in value.items()}


def _only(part: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuse names that cannot be honoured; those without a value say nothing."""
    foreign = [name for name, value in part.items() if name not in known and value not in (None, "", [], {})]
    if foreign:
        raise _refused(
            f"{', '.join(foreign)} in {where}",
            "cannot be honoured",
            allowed=", ".join(sorted(known)),
            mend=_OURS_ALONE,
        )


def _number(value: Any, where: str, *, whole: bool = False) -> float | int:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (whole and number != int(number)):
        raise _refused(where, f"is {value!r}", allowed="a whole number" if whole else "a number")
    return int(number) if whole else number


def _whole(value: Any, where: str, least: int) -> int:
    number = int(_number(value, where, whole=True))
    if number < least:
        raise _refused(where, f"is {number}", allowed=f"at least {least}")
    return number


def _refused(where: str, fault: str, *, allowed: str = "", mend: str = "") -> InvalidSettings:
    return InvalidSettings(f"In the experiment, {where} {fault}", where="katib", allowed=allowed, mend=mend)
