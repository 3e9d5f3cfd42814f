"""When a step may be skipped: the cache policy of every step whose result is worth keeping.

A stored result is reused only when all that it depends on is the same (the inputs, data by its
digest; the project code that the step reaches, helpers included; the installed dependencies) *and*
what it refers to still verifies. Prefect's own `INPUTS + TASK_SOURCE` sees neither an edited helper
nor a deleted file. The log of the run says why a step was reused or not.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.results import ResultStore, get_result_store
from pydantic import BaseModel

from tasks.errors import TrainyardError

PROJECT_PACKAGES = ("tasks", "blocks")
REMEMBERED_RUNS = 20

Inputs = Mapping[str, Any]


@dataclass(kw_only=True)
class StepCache(CachePolicy):
    """Reuse a step's result when nothing that it depends on changed and the result still verifies.

    Attributes:
        verify: Called with the stored result and the inputs; raises `TrainyardError` when what the
            result refers to is gone or damaged. The step then runs again.
        identify: Gives further things that the result depends on, as name → digest, for inputs
            that only name their content (a folder of files that may change under its path).
    """

    verify: Callable[[Any, Inputs], None]
    identify: Callable[[Inputs], Mapping[str, str]] | None = None

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """Return the storage key of this step's result, having dropped one that does not verify."""
        name = task_ctx.task.name
        parts = {
            **input_digests(inputs),
            **code_digests(task_ctx.task.fn.__module__),
            "installed dependencies": dependencies_digest(),
        }
        if self.identify is not None:
            parts.update(self.identify(inputs))
        key = f"{name}-{_digest(parts)}"

        store = get_result_store()
        log = get_run_logger()
        if not store.exists(key):
            log.info("Step %s runs: %s.", name, _reason(store, name, parts))
            return key
        try:
            self.verify(store.read(key).result, inputs)
        except TrainyardError as error:
            log.warning("Step %s runs again, its stored result does not verify: %s", name, error)
            _write(store, key, b"")  # an empty record reads as absent on every storage
            return key
        log.info("Step %s reused: same inputs, code and dependencies; its result verifies.", name)
        return key


def input_digests(inputs: Inputs) -> dict[str, str]:
    """Digest every leaf of a step's inputs.

    Args:
        inputs: Argument name → value; values are JSON values, settings or references.

    Returns:
        `input <dotted path>` → SHA-256, so that a changed leaf can be named.
    """
    leaves: dict[str, str] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        if isinstance(value, Mapping):
            for key in sorted(value, key=str):
                walk(f"{path}.{key}", value[key])
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                walk(f"{path}[{index}]", item)
        else:
            leaves[path] = _digest(value)

    for name, value in inputs.items():
        walk(f"input {name}", value)
    return leaves


def code_digests(module: str) -> dict[str, str]:
    """Digest the project's modules that a module reaches by its imports, late ones included.

    A package that is reached stands for all that it holds, since registries import their members
    by need; so does the module's own stage.

    Args:
        module: Dotted name of the module that defines the step.

    Returns:
        `code <module>` → SHA-256 of its source.
    """
    root = module.split(".")[0]
    if root not in PROJECT_PACKAGES:
        return {f"code {module}": _source_digest(module)}
    graph = _import_graph()
    stage = module.rpartition(".")[0]
    reached = {module, stage, *graph.find_upstream_modules(module)}
    for package in [m for m in reached if m not in PROJECT_PACKAGES]:
        reached |= graph.find_descendants(package)
    return {f"code {name}": _source_digest(name) for name in sorted(reached)}


@cache
def dependencies_digest() -> str:
    """Digest the names and versions of all installed distributions."""
    installed = {(d.name.lower(), d.version) for d in importlib.metadata.distributions() if d.name}
    return _digest(sorted(installed))


@cache
def _import_graph() -> Any:
    import grimp

    logging.getLogger("grimp").setLevel(logging.WARNING)
    return grimp.build_graph(*PROJECT_PACKAGES, cache_dir=None)


@cache
def _source_digest(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return "no source"
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _reason(store: ResultStore, name: str, parts: dict[str, str]) -> str:
    """Say what differs from the nearest earlier run of the step, and remember this one."""
    index = f"{name}-runs"
    earlier = _read_index(store, index)
    _write(store, index, json.dumps([parts, *earlier][:REMEMBERED_RUNS]).encode())
    if not earlier:
        return "nothing is stored yet"
    changes = min((_changed(old, parts) for old in earlier), key=len)
    if not changes:
        return "an earlier run with the same inputs left no usable result"
    shown = ", ".join(changes[:5]) + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")
    return f"changed since the nearest earlier run: {shown}"


def _changed(old: dict[str, str], new: dict[str, str]) -> list[str]:
    return sorted(part for part in old.keys() | new.keys() if old.get(part) != new.get(part))


def _read_index(store: ResultStore, index: str) -> list[dict[str, str]]:
    storage = _storage(store)
    try:
        return list(json.loads(storage.read_path(index)))
    except (OSError, ValueError):
        return []  # first run of the step, or a torn write: only the explanation is lost


def _write(store: ResultStore, path: str, content: bytes) -> None:
    _storage(store).write_path(path, content)


def _storage(store: ResultStore) -> Any:
    assert store.result_storage is not None  # a task run's store has one from its first look-up on
    return store.result_storage
