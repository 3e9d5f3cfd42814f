"""Prefect tasks that delete trainings and experiments, and bring them back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.logging import get_run_logger

from blocks.endpoint_host import EndpointHost
from tasks.data.task import asking_user
from tasks.errors import Damaged, NotFound
from tasks.home import home
from tasks.removal.config import DeleteConfig, ExperimentConfig
from tasks.trainings.config import is_flow_run
from tasks.trainings.tags import DELETED_TAG, FROM_RUN_TAG
from tasks.trainings.task import (
    PAGE,
    TRAINING_FLOWS,
    find_flow_run,
    find_templates,
    flow_runs,
    is_draft,
    mlflow_client,
    read_run,
    require_own,
    runs_of,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tasks.removal.deletion import Doomed, Endpoint
    from tasks.trainings.records import RunFacts


@task(name="delete training", task_run_name="delete {config.training}")
def delete_training(config: DeleteConfig, site: str = "local") -> list[str]:
    """Delete a training, unless something stands on it; returns what went, or would go, one line each.

    A draft or a flow run that left nothing in MLflow is deleted in Prefect.

    Raises:
        NotFound: There is no such training.
        NotAllowed: It is somebody else's, runs, or is in use; the message says by what and how to mend it.
    """
    from tasks.removal import deletion
    from tasks.trainings import records

    if is_flow_run(config.training) and not runs_of(config.training, site):
        return _delete_flow_run(config)
    mlflow = mlflow_client(site)
    run = read_run(config.training, site)
    user = asking_user()
    records.require_owner(run, user, "delete")
    what = deletion.doomed(mlflow, run, home() / "work")
    with get_client(sync_client=True) as client:
        flow_runs = _alone_in(client, what.runs, mlflow)
        found = deletion.obstacles(
            mlflow,
            what,
            live=_live(client, {one.flow_run_id for one in what.runs}),
            waiting=_waiting(client, what),
            endpoints=_endpoints(site),
            templates=_templates(client, what),
        )
        artifacts = _artifacts(client, flow_runs) if config.for_good else {}
        lines = deletion.listing(what, config.for_good)
        lines += [f"artifact {key} of flow run {run_id}" for key, run_id in dict.fromkeys(artifacts.values())]
        if config.dry_run:
            return _would_go(lines, found)
        deletion.require_none(f"training {run.name} ({run.run_id})", found)
        for identity in artifacts:
            client.delete_artifact(identity)
        for one in flow_runs:
            client.update_flow_run(one.id, tags=sorted({*one.tags, DELETED_TAG}))
        deletion.delete(mlflow, what, user, config.for_good)
    get_run_logger().info("%s deleted the training %s (%s).", user, run.name, run.run_id)
    mend = (
        f"MLflow keeps the record until `mlflow gc --run-ids {','.join(one.run_id for one in what.runs)}`."
        if config.for_good
        else f"`restore-training` with `{run.run_id}` undoes it."
    )
    return _went(f"Deleted {run.name}", lines, mend)


@task(name="restore training", task_run_name="restore {run_id}")
def restore_training(run_id: str, site: str = "local") -> list[str]:
    """Undo the deletion of a training; returns the MLflow runs that are back.

    Raises:
        NotFound: There is no such run.
        NotAllowed: It is somebody else's, was deleted for good, or is not deleted.
    """
    from tasks.removal import deletion
    from tasks.trainings import records

    mlflow = mlflow_client(site)
    run = records.read(mlflow, run_id)
    records.require_owner(run, asking_user(), "restore")
    back = deletion.restore(mlflow, run)
    with get_client(sync_client=True) as client:
        for one in flow_runs(client, ids={one.flow_run_id for one in back}):
            client.update_flow_run(one.id, tags=sorted(set(one.tags) - {DELETED_TAG}))
    return [one.run_id for one in back]


@task(name="delete experiment", task_run_name="delete experiment {config.name}")
def delete_experiment(config: ExperimentConfig, site: str = "local") -> list[str]:
    """Delete an experiment without trainings; its name is free then.

    Raises:
        NotFound: There is no such experiment.
        NotAllowed: It has trainings, or belongs to a workspace.
    """
    from tasks.removal import deletion, experiments

    mlflow = mlflow_client(site)
    found = experiments.obstacles(mlflow, config.name)
    lines = [f"MLflow experiment {config.name}"]
    if config.dry_run:
        return _would_go(lines, found)
    deletion.require_none(f"experiment {config.name}", found)
    experiments.delete(mlflow, config.name)
    return _went(
        f"Deleted the experiment {config.name}",
        lines,
        f"`restore-experiment` with `{config.name}` undoes it.",
    )


@task(name="restore experiment", task_run_name="restore experiment {name}")
def restore_experiment(name: str, site: str = "local") -> str:
    """Undo the last deletion of an experiment; returns its id."""
    from tasks.removal import experiments

    return experiments.restore(mlflow_client(site), name)


def _delete_flow_run(config: DeleteConfig) -> list[str]:
    with get_client(sync_client=True) as client:
        run = find_flow_run(client, config.training)
        require_own(run, asking_user(), "delete")
        found = []
        if client.read_flow(run.flow_id).name not in TRAINING_FLOWS:
            found.append("it is no training")
        if not is_draft(run) and not (run.state and run.state.is_final()):
            found.append(f"it is {(run.state_name or 'under way').lower()}: stop it, or wait for its end")
        what = "draft" if is_draft(run) else "flow run"
        lines = [f"{what} {run.name} ({run.id})"]
        if config.dry_run:
            return _would_go(lines, found)
        from tasks.removal import deletion

        deletion.require_none(f"{what} {run.name}", found)
        client.delete_flow_run(run.id)
    return _went(f"Deleted {run.name}", lines, "It left nothing in MLflow.")


def _live(client: SyncPrefectClient, ids: Iterable[str]) -> list[str]:
    return [run.name for run in flow_runs(client, ids=ids, live=True)]


def _waiting(client: SyncPrefectClient, what: Doomed) -> list[str]:
    """Flow runs that have not ended, drafts and planned ones too, and start from the weights that go."""
    every = flow_runs(client, live=True, planned=True)
    return [run.name for run in every if what.gives(_starts_from(run.parameters))]


def _starts_from(parameters: Mapping[str, Any]) -> str:
    return str((parameters.get("training") or {}).get("start_from", ""))


def _alone_in(client: SyncPrefectClient, runs: Sequence[RunFacts], mlflow: MlflowClient) -> list[FlowRun]:
    """Flow runs that made these MLflow runs and no other that stays: their pages may go as well."""
    from tasks.trainings import records

    going = {run.run_id for run in runs}
    alone = {
        flow_run_id
        for flow_run_id in {run.flow_run_id for run in runs}
        if flow_run_id and {one.run_id for one in records.of_flow_run(mlflow, flow_run_id)} <= going
    }
    return flow_runs(client, ids=alone)


def _artifacts(client: SyncPrefectClient, flow_runs: Sequence[FlowRun]) -> dict[UUID, tuple[str, str]]:
    """Artifacts of flow runs: id → key and flow run."""
    found: dict[UUID, tuple[str, str]] = {}
    for run in flow_runs:
        for artifact in client.read_artifacts(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])), limit=PAGE
        ):
            found[artifact.id] = (artifact.key or "without a key", str(run.id))
    return found


def _templates(client: SyncPrefectClient, what: Doomed) -> list[str]:
    """Templates that were made from these runs, or start from their weights."""
    made_from = {FROM_RUN_TAG + run.run_id for run in what.runs}
    return sorted(
        one.name
        for one in find_templates(client)
        if not made_from.isdisjoint(one.tags) or what.gives(_starts_from(one.parameters))
    )


def _endpoints(site: str) -> list[Endpoint]:
    """Endpoints that are switched on, with what they answer with, as each wrote it down."""
    from tasks.removal.deletion import Endpoint
    from tasks.serve.record import EndpointPlace, list_records
    from tasks.serve.versions import VersionStore

    try:
        host = cast(EndpointHost, EndpointHost.load(site))
    except ValueError:
        return []  # a site that serves nothing
    found = []
    for one in list_records(home := os.path.expanduser(host.home)):
        versions, source = EndpointPlace(home, one.name).versions, ""
        if one.enabled and versions.is_dir():
            store = VersionStore(versions, one.model)
            with suppress(NotFound, Damaged):  # dropped, or being written at this moment
                source = store.source(store.last_serving() or 0)
        if one.enabled:
            found.append(Endpoint(one.name, one.model, one.alias, source))
    return found


def _would_go(lines: Sequence[str], found: Sequence[str]) -> list[str]:
    verdict = (
        "In the way:\n\n" + "\n".join(f"- {one}" for one in found) if found else "Nothing is in the way."
    )
    create_markdown_artifact(
        "Would be deleted:\n\n" + "\n".join(f"- {line}" for line in lines) + f"\n\n{verdict}",
        key="deleted",
        description="Dry run: nothing was deleted",
    )
    return [*lines, *(f"in the way: {one}" for one in found)]


def _went(title: str, lines: Sequence[str], mend: str) -> list[str]:
    create_markdown_artifact(
        f"# {title}\n\n" + "\n".join(f"- {line}" for line in lines) + f"\n\n{mend}",
        key="deleted",
        description=title,
    )
    return list(lines)
