"""Whether sets of settings can be run: all that can be told before there is a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tasks.data.config import DatasetChoice, IngestConfig
from tasks.errors import InvalidSettings, TrainyardError
from tasks.launch import changes as sets
from tasks.refs import Problem
from tasks.train.config import TrainConfig

if TYPE_CHECKING:
    from tasks.data.storage.store import DatasetStore

Valid = Callable[[dict[str, Any]], Mapping[str, Any]]
"""Makes settings of plain parameters, or raises what is wrong: TrainyardError, ValidationError, TypeError."""


def checked(
    flow: str,
    names: Collection[str],
    valid: Valid,
    base: Mapping[str, Any],
    every: Sequence[Mapping[str, Any]],
    store: DatasetStore,
) -> list[dict[str, Any]]:
    """The parameters of each set.

    Args:
        flow: Name of the flow that is to run.
        names: Its parameters.
        valid: Makes its settings of them.
        base: What all sets have in common.
        every: The changes of each set.
        store: Where datasets are.

    Raises:
        InvalidSettings: Some cannot be run; all that is wrong with any of them is said.
    """
    faults: list[tuple[int, Mapping[str, Any], Iterable[str]]] = []
    seen: dict[str, int] = {}
    files: dict[str, int] = {}
    result = []
    look_up = _LookUp(store)
    for number, changed in enumerate(every, start=1):
        try:
            parameters = sets.applied(base, changed, names)
            wrong = _wrong(valid, parameters, look_up)
        except TrainyardError as error:
            faults.append((number, changed, [str(error)]))
            continue
        twin = seen.setdefault(sets.digest(parameters), number)
        if twin != number:
            wrong.append(f"it is the same as set {twin}")
        output = (parameters.get("training") or {}).get("output")
        if output and files.setdefault(output, number) != number:
            wrong.append(f"its model would be written to {output}, like that of set {files[output]}")
        if wrong:
            faults.append((number, changed, wrong))
        result.append(parameters)
    if len(every) == 1 and faults:
        wrong = [one.rstrip(".") for one in faults[0][2]]
        raise InvalidSettings("; ".join(wrong), where=f"parameters of the flow {flow}")
    sets.require_all(faults, len(every))
    return result


def _wrong(valid: Valid, parameters: Mapping[str, Any], look_up: _LookUp) -> list[str]:
    """What is wrong with the parameters of a flow run; empty if nothing is."""
    try:
        settings = valid(dict(parameters))
    except TrainyardError as error:  # what the algorithm cannot take
        return [str(error)]
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    except TypeError as error:  # names that the flow does not have, or lacks
        return [str(error)]
    training = settings.get("training")
    if not isinstance(training, TrainConfig) or settings.get("method", "train") != "train":
        return []
    if training.own_code is not None:  # its hyperparameters are its own matter
        return []
    try:
        problem, rows = look_up(settings)
        if problem is not None:
            training.resolve(problem, rows)
    except TrainyardError as error:
        return [str(error)]
    return []


class _LookUp:
    """The problem and the rows of the data of a flow run; each dataset is looked up once."""

    def __init__(self, store: DatasetStore) -> None:
        self._store = store
        self._known: dict[tuple[str, str], tuple[Problem, int]] = {}

    def __call__(self, settings: Mapping[str, Any]) -> tuple[Problem | None, int]:
        dataset = settings.get("dataset")
        if isinstance(dataset, DatasetChoice):
            key = (dataset.name, dataset.version)
            if key not in self._known:
                manifest = self._store.get(*key)
                self._known[key] = (manifest.problem, manifest.rows)
            return self._known[key]
        data = settings.get("data")
        return (data.problem, 1) if isinstance(data, IngestConfig) else (settings.get("problem"), 1)
