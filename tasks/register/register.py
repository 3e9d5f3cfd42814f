"""Versions of registered models: made once a run, found again by number or alias."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from mlflow.exceptions import MlflowException

from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotFound, Unavailable
from tasks.evaluate.examples import (
    DIGEST_TAG,
    EVALUATION_TAG,
    EXAMPLES_TAG,
    instances_of,
    read_sendable,
    scores_of,
    sendable_rows,
)
from tasks.evaluate.records import load_predictions
from tasks.refs import EvaluationRef, ModelVersionRef, RunRef
from tasks.register.config import RegisterConfig

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

#: Tag of a run: how far it came.
STATUS_TAG = "trainyard.status"
EXAMPLES_PATH = "registration/examples.json"
EXAMPLE_ROWS = 4


def register(
    run: RunRef,
    evaluation: EvaluationRef,
    config: RegisterConfig,
    store: DatasetStore,
    client: MlflowClient,
    lock_folder: Path,
    tags: Mapping[str, str] | None = None,
) -> ModelVersionRef:
    """Make a run's model a version of a registered model; a run has one version in each.

    Some held-out rows are stored with the answers that the evaluation saw, so that whoever serves the
    version can tell that it answers the same.

    Args:
        run: The training.
        evaluation: How it did; its numbers go on the version.
        config: The model's name, and what is written beside the version.
        store: Where the dataset version is.
        client: MLflow.
        lock_folder: Keeps two callers on this host from making two versions of one run.
        tags: More tags for the version, such as the flow run's id.

    Raises:
        InvalidSettings: The run did not finish, or the evaluation is of another run.
        NotFound: The run, its evaluation or its dataset is gone.
    """
    name = config.model or run.dataset.name
    if evaluation.run_id != run.run_id:
        raise InvalidSettings(
            "the evaluation is of another run",
            where=f"run {run.run_id}, evaluation of {evaluation.run_id}",
            mend="evaluate the run that is to be registered",
        )
    _check_finished(client, run.run_id)
    lock_folder.mkdir(parents=True, exist_ok=True)
    with FileLock(lock_folder / f"register-{name}.lock", timeout=120):
        _ensure_model(client, name)
        version = _version_of_run(client, name, run.run_id)
        if version is None:
            client.log_text(run.run_id, _examples(store, client, evaluation), EXAMPLES_PATH)
            version = client.create_model_version(
                name,
                source=run.model_uri,
                run_id=run.run_id,
                tags=_tags(run, evaluation, {**config.tags, **(tags or {})}),
                description=config.description or _describe(run, evaluation),
                model_id=run.model_uri.removeprefix("models:/"),
            )
            client.set_tag(run.run_id, STATUS_TAG, "published")
    return _ref(version)


def find_version(client: MlflowClient, model: str, which: str | int) -> ModelVersionRef:
    """A version of a registered model by its number or by an alias.

    Raises:
        NotFound: There is no such model, version or alias.
    """
    try:
        if isinstance(which, int) or which.isdigit():
            return _ref(client.get_model_version(model, str(which)))
        return _ref(client.get_model_version_by_alias(model, which))
    except MlflowException as error:
        raise _not_found(client, model, which, error) from error


def champion_of(client: MlflowClient, model: str, alias: str = "champion") -> ModelVersionRef | None:
    """The version that an alias names, or None."""
    try:
        return find_version(client, model, alias)
    except NotFound:
        return None


def _not_found(client: MlflowClient, model: str, which: str | int, error: MlflowException) -> Exception:
    if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return Unavailable(f"MLflow does not answer: {error}", where=str(client.tracking_uri))
    try:
        found = client.get_registered_model(model)
    except MlflowException:
        known = ", ".join(sorted(m.name for m in client.search_registered_models(max_results=20)))
        return NotFound(
            f"there is no registered model {model!r}",
            where=str(client.tracking_uri),
            allowed=known or "none is registered yet",
            mend="train and register it first",
        )
    aliases = ", ".join(f"{alias} (v{number})" for alias, number in sorted(found.aliases.items()))
    return NotFound(
        f"the model {model!r} has no version {which!r}",
        where=str(client.tracking_uri),
        allowed=f"a version number, or an alias: {aliases or 'none is set'}",
        mend="promote a version, or give a number that exists",
    )


def _check_finished(client: MlflowClient, run_id: str) -> None:
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise NotFound(f"MLflow has no run {run_id}", where=str(client.tracking_uri)) from error
    # Own code may close the run of its training, which goes on.
    status = "RUNNING" if run.data.tags.get(STATUS_TAG) == "running" else run.info.status
    if status not in ("FINISHED", "KILLED"):  # a stopped run keeps its best model so far
        raise InvalidSettings(
            f"the run is {status.lower()}",
            where=f"run {run_id}",
            allowed="a run that finished",
            mend="wait for its end, or train again",
        )


def _ensure_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_of_run(client: MlflowClient, name: str, run_id: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name='{name}' and run_id='{run_id}'")
    return min(found, key=lambda version: int(version.version), default=None)


def _tags(run: RunRef, evaluation: EvaluationRef, more: Mapping[str, str]) -> dict[str, str]:
    measured = {f"{evaluation.split}_{name}": f"{value:.6g}" for name, value in evaluation.metrics.items()}
    return {
        **more,
        **measured,
        "algorithm": run.algorithm,
        "dataset": str(run.dataset),
        "trainyard.dataset_digest": run.dataset.digest,
        DIGEST_TAG: run.digest,
        EXAMPLES_TAG: f"runs:/{run.run_id}/{EXAMPLES_PATH}",
        EVALUATION_TAG: evaluation.model_dump_json(),
    }


def _describe(run: RunRef, evaluation: EvaluationRef) -> str:
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in evaluation.metrics.items())
    return (
        f"{run.algorithm} trained on {run.dataset}; on {evaluation.rows:,} {evaluation.split} rows: {shown}."
    )


def _examples(store: DatasetStore, client: MlflowClient, evaluation: EvaluationRef) -> str:
    """A few held-out rows as a client sends them, with the scores that the evaluation saw."""
    raw = read_sendable(store, evaluation.dataset, evaluation.split, EXAMPLE_ROWS)
    predictions = load_predictions(client, evaluation)
    rows = sendable_rows(raw, EXAMPLE_ROWS)
    scores = scores_of(predictions, [raw.ids[row] for row in rows])
    return json.dumps({"instances": instances_of(raw, rows), "scores": scores})


def _ref(version: ModelVersion) -> ModelVersionRef:
    return ModelVersionRef(
        name=version.name,
        version=int(version.version),
        run_id=version.run_id or "",
        model_uri=version.source,
        digest=version.tags.get(DIGEST_TAG, ""),
    )
