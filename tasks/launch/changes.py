"""Settings that differ between trainings: named shortly, laid over the parameters of a flow run."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tasks.errors import InvalidSettings
from tasks.launch.config import MOST_SETS, GroupConfig
from tasks.train.algorithms.network_algorithm import TRANSFORMERS_NAMES
from tasks.train.config import TrainConfig

TRAINING = "training"
HYPERPARAMETERS = "hyperparameters"


def expanded(config: GroupConfig) -> list[dict[str, Any]]:
    """The sets of changes of a group: each set in each combination of the grid, the last name quickest.

    Raises:
        InvalidSettings: There are too many, or a name of the grid has no values.
    """
    empty = [name for name, values in config.grid.items() if not values]
    if empty:
        raise InvalidSettings(
            f"No values are given for {', '.join(empty)}", where="grid", mend="give values, or leave it out"
        )
    count = max(1, len(config.sets))
    for values in config.grid.values():
        count *= len(values)
    if count > MOST_SETS:
        raise InvalidSettings(
            f"The group would have {count:,} trainings",
            where="sets and grid",
            allowed=f"up to {MOST_SETS}",
            mend="give fewer values, several groups, or search with the flow tune",
        )
    combinations = [
        dict(zip(config.grid, values, strict=True)) for values in itertools.product(*config.grid.values())
    ]
    return [{**one, **combination} for one in config.sets or ({},) for combination in combinations]


def applied(base: Mapping[str, Any], changes: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The parameters of a flow run with changes laid over them.

    A name with a parameter of the flow in front is a path (`dataset.name`, `preprocessing.steps.0.method`);
    a setting of the training stands for itself (`seed`); any other is a hyperparameter. None takes out
    what is there, so that its default holds. Names of transformers stand for ours: a change by one of
    them takes the place of what was set by the other.

    Args:
        base: Parameters as plain JSON; they stay as they are.
        changes: New values by name.
        names: Parameters that the flow has.

    Raises:
        InvalidSettings: A name leads nowhere; all of them are named at once.
    """
    result = copy.deepcopy(dict(base))
    faults: list[str] = []
    for name, value in changes.items():
        path = _path(name, names)
        if path is None:
            faults.append(f"{name!r} is no parameter")
            continue
        try:
            _drop_other_names(result, path)
            _put(result, path, value)
        except (KeyError, IndexError, ValueError, TypeError):
            faults.append(f"{name!r} leads nowhere")
    if faults:
        raise InvalidSettings(
            "; ".join(faults),
            allowed=f"paths that begin with {', '.join(sorted(names))}"
            + (", settings of the training, and hyperparameters" if TRAINING in names else ""),
        )
    return result


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters laid over each other: a later one takes the place of an earlier one as a whole."""
    result: dict[str, Any] = {}
    for layer in layers:
        result.update(layer)
    return result


def digest(parameters: Mapping[str, Any], job_variables: Mapping[str, Any] | None = None) -> str:
    """Recognises equal parameters, and the same image to run in, where one was chosen."""
    what = [parameters, job_variables] if job_variables else parameters
    text = json.dumps(what, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def said(changes: Mapping[str, Any]) -> str:
    """Changes in one short line, for a name or a table."""
    return ", ".join(f"{name.rpartition('.')[2]}={_short(value)}" for name, value in changes.items())


def require_all(faults: Sequence[tuple[int, Mapping[str, Any], Iterable[str]]], count: int) -> None:
    """Refuse a group with all that is wrong in it.

    Args:
        faults: Number of the set from 1, the set, and what is wrong with it.
        count: Sets that there are.

    Raises:
        InvalidSettings: Something is.
    """
    if not faults:
        return
    lines = [
        f"set {number} ({said(changes) or 'no change'}): {'; '.join(one.rstrip('.') for one in wrong)}"
        for number, changes, wrong in faults
    ]
    raise InvalidSettings(
        f"{len(faults)} of {count} sets cannot be run: " + "\n- ".join(lines),
        where="group",
        mend="mend these sets; nothing was started",
    )


def _path(name: str, names: Collection[str]) -> list[str] | None:
    first, *rest = name.split(".")
    if first in names:
        return [first, *rest]
    if rest or TRAINING not in names or not first:
        return None
    if first in TrainConfig.model_fields:
        return [TRAINING, first]
    return [TRAINING, HYPERPARAMETERS, first]


def _drop_other_names(parameters: dict[str, Any], path: Sequence[str]) -> None:
    """Take out the value of a hyperparameter that another name of it gave; own code has names of its own."""
    training = parameters.get(TRAINING)
    if list(path[:-1]) != [TRAINING, HYPERPARAMETERS] or not isinstance(training, dict):
        return
    there = training.get(HYPERPARAMETERS)
    if training.get("own_code") or not isinstance(there, dict):
        return
    for other in [name for name in there if name != path[-1] and _ours(name) == _ours(path[-1])]:
        del there[other]


def _ours(name: str) -> str:
    return TRANSFORMERS_NAMES.get(name, name)


def _put(place: Any, path: Sequence[str], value: Any) -> None:
    *way, last = path
    for step in way:
        if isinstance(place, list):
            place = place[int(step)]
            continue
        if place.get(step) is None:
            if value is None:
                return
            place[step] = {}
        place = place[step]
    if isinstance(place, list):
        place[int(last)] = value
    elif not isinstance(place, dict):
        raise TypeError(f"{last} of a value")
    elif value is None:
        place.pop(last, None)
    else:
        place[last] = value


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"
