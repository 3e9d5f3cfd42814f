"""Whether sets of settings can be run: all that can be told before there is a run, and all of it at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from tasks.data.config import DatasetChoice, IngestConfig
from tasks.errors import InvalidSettings, TrainyardError, noted
from tasks.launch import changes as sets
from tasks.refs import Problem
from tasks.sweep.config import SweepConfig
from tasks.train import algorithms
from tasks.train.config import TrainConfig
from tasks.train.own_code.config import OwnCode
from tasks.tune.config import TuneConfig

if TYPE_CHECKING:
    from tasks.data.manifest import Manifest
    from tasks.data.storage.store import DatasetStore

_LOOKED_UP = {"own_code", "resources", "start_from", "checkpoint_folder", "output"}
"""Settings of a training that name something at the site."""


@dataclass(frozen=True)
class FlowFacts:
    """The flow that is to run.

    Attributes:
        name: Its name.
        kinds: Its parameters, with their types.
        settings: Makes its settings of plain parameters, or raises what is wrong: TrainyardError,
            ValidationError, or TypeError for a name that is unknown or missing.
    """

    name: str
    kinds: Mapping[str, Any]
    settings: Callable[[dict[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Site:
    """What is there, asked for each thing once: sets of a group mostly name the same.

    Attributes:
        store: Datasets.
        training_faults: All that is wrong with what a training names.
        require_source: Raises what is wrong with where data is to come from.
    """

    store: DatasetStore
    training_faults: Callable[[TrainConfig], Sequence[TrainyardError]]
    require_source: Callable[[IngestConfig], object]
    _answers: dict[str, Any] = field(default_factory=dict)

    def dataset(self, name: str, version: str) -> Manifest:
        answer: Manifest = self._once(f"dataset {name}@{version}", lambda: self.store.get(name, version))
        return answer

    def ingestion_faults(self, data: IngestConfig) -> Sequence[TrainyardError]:
        """What keeps data from being read from where it is, into a dataset of its name."""

        def ask() -> Sequence[TrainyardError]:
            from tasks.data.unions import version_to_add_to

            faults: list[TrainyardError] = []
            with noted(faults):
                self.store.require_writable(data.name)
                if data.add:
                    version_to_add_to(self.store, data)
            with noted(faults):
                self.require_source(data)
            return faults

        faults: Sequence[TrainyardError] = self._once(data.model_dump_json(), ask)
        return faults

    def faults_of(self, training: TrainConfig) -> Sequence[TrainyardError]:
        key = training.model_dump_json(include=_LOOKED_UP)
        faults: Sequence[TrainyardError] = self._once(key, lambda: self.training_faults(training))
        return faults

    def _once(self, key: str, ask: Callable[[], Any]) -> Any:
        if key not in self._answers:
            try:
                self._answers[key] = ask()
            except TrainyardError as error:
                self._answers[key] = error
        answer = self._answers[key]
        if isinstance(answer, TrainyardError):
            raise answer
        return answer


def checked(
    flow: FlowFacts,
    base: Mapping[str, Any],
    every: Sequence[Mapping[str, Any]],
    site: Site,
    is_there: Callable[[Mapping[str, Any]], bool] = lambda parameters: False,
) -> list[dict[str, Any]]:
    """The parameters of each set.

    Args:
        flow: What is to run.
        base: What all sets have in common.
        every: The changes of each set.
        site: What can be looked up.
        is_there: Whether a set with these parameters is not started again: it may have written its output.

    Raises:
        InvalidSettings: Some cannot be run; all that is wrong with any of them is said.
    """
    faults: list[tuple[int, Mapping[str, Any], Iterable[str]]] = []
    seen: dict[str, int] = {}
    files: dict[str, int] = {}
    result = []
    for number, changed in enumerate(every, start=1):
        try:
            parameters = sets.applied(base, changed, flow.kinds)
        except TrainyardError as error:
            faults.append((number, changed, [str(error)]))
            continue
        wrong = [] if is_there(parameters) else _wrong(flow, parameters, site)
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
        raise InvalidSettings("; ".join(wrong), where=f"parameters of the flow {flow.name}")
    sets.require_all(faults, len(every))
    return result


def _wrong(flow: FlowFacts, parameters: Mapping[str, Any], site: Site) -> list[str]:
    """What is wrong with the parameters of a flow run; empty if nothing is."""
    told: list[str] = []
    try:
        settings = flow.settings(dict(parameters))
    except TypeError as error:  # names that the flow does not have, or lacks
        return [str(error)]
    except TrainyardError as error:  # what the algorithm cannot take
        told = [str(error)]
        settings = _valid_parts(flow.kinds, parameters)
    except ValidationError as error:
        told = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        settings = _valid_parts(flow.kinds, parameters)
    return told + [str(error) for error in _site_faults(settings, site)]


def _site_faults(settings: Mapping[str, Any], site: Site) -> list[TrainyardError]:
    """All that does not fit what is there; settings that are missing are passed over."""
    faults: list[TrainyardError] = []
    problem, rows, stored = _data(settings, site, faults)
    method = settings.get("method")
    training, tuning, sweeping = (
        settings.get(name) if method in (None, how) else None
        for name, how in (("training", "train"), ("tuning", "tune"), ("sweeping", "sweep"))
    )
    if isinstance(training, TrainConfig):
        faults += site.faults_of(training)
        if training.own_code is not None:  # what it can learn, it knows itself
            return faults
        if problem is not None:
            with noted(faults):
                training.resolve(problem, rows)
    if isinstance(tuning, TuneConfig) and problem is not None:
        from tasks.tune import ranges

        with noted(faults):
            ranges.resolve(tuning, problem, rows)
    if isinstance(sweeping, SweepConfig) and problem is not None:
        for name in sweeping.algorithms:
            with noted(faults):
                algorithms.get(name, problem)
    if stored is not None:
        from tasks.data.read import require_split

        with noted(faults):
            require_split(stored, "train")
    return faults


def _data(
    settings: Mapping[str, Any], site: Site, faults: list[TrainyardError]
) -> tuple[Problem | None, int, Manifest | None]:
    """What is to be learned, from how many rows, and the version that is trained on as it is.

    The problem is None where it cannot be told. Data that comes in later counts as one row.
    """
    dataset, data, problem = (settings.get(name) for name in ("dataset", "data", "problem"))
    if isinstance(dataset, DatasetChoice):
        with noted(faults):
            manifest = site.dataset(dataset.name, dataset.version)
            return manifest.problem, manifest.rows, manifest
        return None, 1, None
    if isinstance(data, IngestConfig):
        faults += site.ingestion_faults(data)
        return data.problem, 1, None
    if data is None or problem is None:
        return None, 1, None
    if data.source:  # the data of a template
        new = IngestConfig(source=data.source, name=data.name, problem=problem)
        faults += site.ingestion_faults(new)
        return problem, 1, None
    with noted(faults):
        manifest = site.dataset(data.name, data.version)
        site.store.require_writable(data.name)  # its preprocessing makes a new version
        if manifest.problem is problem:
            return problem, manifest.rows, None
        raise InvalidSettings(
            f"The dataset {data.name}@{manifest.version} is for {manifest.problem.value}; the template is "
            f"for {problem.value}",
            where="data",
            mend="choose another dataset, or another template",
        )
    return None, 1, None


def _valid_parts(kinds: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Of parameters that are not valid as a whole those that are, so that no fault hides another."""
    parts: dict[str, Any] = {}
    for name in kinds.keys() & parameters.keys():
        try:
            parts[name] = TypeAdapter(kinds[name]).validate_python(parameters[name])
        except (TrainyardError, ValidationError):
            if name == sets.TRAINING and isinstance(parameters[name], Mapping):
                parts[name] = _valid_training(parameters[name])
    return parts


def _valid_training(given: Mapping[str, Any]) -> TrainConfig | None:
    """A training with those fields that are valid by themselves; None for own code that names no source."""
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name == sets.HYPERPARAMETERS and given.get("algorithm", "auto") != "auto":
            continue  # the algorithm has told what is wrong with them
        with suppress(TrainyardError, ValidationError):
            fields[name] = getattr(TrainConfig.model_validate({name: value}), name)
    own = given.get("own_code")
    if own and "own_code" not in fields:
        parts = own.items() if isinstance(own, Mapping) else ()
        named = {name: value for name, value in parts if name in ("source", "entry_point", "datasets")}
        try:
            fields["own_code"] = OwnCode.model_validate(named)
        except (TrainyardError, ValidationError):
            return None
    return TrainConfig().model_copy(update=fields)
