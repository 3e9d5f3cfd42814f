"""Trainings as people see them: listed and renamed; and what other stages ask of Prefect and MLflow."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    DeploymentFilter,
    DeploymentFilterTags,
    FlowFilter,
    FlowFilterId,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from blocks.mlflow_server import MlflowServer
from tasks.data.storage.access import user_of
from tasks.data.task import asking_user, open_store
from tasks.errors import NotAllowed, NotFound
from tasks.trainings.config import ListConfig, RenameConfig, is_flow_run
from tasks.trainings.status import DRAFT
from tasks.trainings.tags import GROUP_TAG, TEMPLATE_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tasks.trainings.listing import FlowRunFacts
    from tasks.trainings.records import RunFacts

TRAINING_FLOWS = ("train", "retrain", "tune", "sweep", "train-from-template")
"""Flows whose runs are trainings."""
TEMPLATE_FLOW = "train-from-template"

PAGE = 200
"""Items that one request asks for: the most that the server gives."""
MOST_FLOW_RUNS = 5_000
_RUN_OF_PAGE = re.compile(r"/runs/([0-9a-f]{32})")


@task(name="list trainings")
def list_trainings(config: ListConfig, site: str = "local") -> list[dict[str, str]]:
    """List trainings, and publish the list as the artifact `trainings`."""
    return publish_list(config, site)


@task(name="rename training", task_run_name="rename {config.training}")
def rename_training(config: RenameConfig, site: str = "local") -> str:
    """Give a training another name, description or tags; returns its name.

    Raises:
        NotFound: There is no such training, or it has no MLflow run yet.
        NotAllowed: It is somebody else's.
        InvalidSettings: It would have more than ten tags of its own.
    """
    from tasks.trainings import records
    from tasks.trainings.renaming import rename

    run = read_run(config.training, site)
    records.require_owner(run, asking_user(), "rename")
    return rename(mlflow_client(site), run, config)


def publish_list(config: ListConfig, site: str, key: str = "trainings") -> list[dict[str, str]]:
    from tasks.trainings import list_page, listing, records

    server = cast(MlflowServer, MlflowServer.load(site))
    mlflow = server.client()
    runs, older = records.trainings(mlflow)
    if older and config.experiment:
        own, older = records.trainings(mlflow, config.experiment)
        runs = list({run.run_id: run for run in (*runs, *own)}.values())
    with get_client(sync_client=True) as client:
        flow_runs = _flow_run_facts(client, runs, config.group)
    store = open_store(site)
    hidden = set(store.all_names()) - set(store.names())
    every = listing.joined(
        runs, flow_runs, set(records.registered(mlflow)), hidden, server.tracking_uri, time.time()
    )
    fitting = listing.chosen(every, config.model_copy(update={"limit": len(every) or 1}))
    shown = fitting[: config.limit]
    about = f"group {config.group}" if key == "group" else f"{len(fitting)} trainings"
    whole = not older and len(flow_runs) < MOST_FLOW_RUNS
    create_markdown_artifact(list_page.render(shown, len(fitting), whole), key=key, description=about)
    return list_page.rows(shown)


def flow_runs(
    client: SyncPrefectClient,
    *,
    tags: Sequence[str] = (),
    ids: Iterable[str] | None = None,
    live: bool = False,
    planned: bool = False,
    most: int = 10**6,
) -> list[FlowRun]:
    """Flow runs that train, newest first.

    Args:
        client: Prefect.
        tags: Only with all these tags.
        ids: Only these; what is no id is passed over.
        live: Only those that have not ended, drafts among them.
        planned: Those as well that are planned for later, as by a schedule; ids find them anyhow.
        most: Longest answer.
    """
    trains = FlowFilter(name=FlowFilterName(any_=list(TRAINING_FLOWS)))
    chunks: list[list[UUID] | None] = [None]
    if ids is not None:
        known = [UUID(one) for one in sorted(set(ids)) if is_flow_run(one)]
        chunks = [known[start : start + PAGE] for start in range(0, len(known), PAGE)]
    found: dict[UUID, FlowRun] = {}
    for chunk in chunks:
        offset = 0
        wanted = FlowRunFilter(
            id=FlowRunFilterId(any_=chunk) if chunk else None,
            tags=FlowRunFilterTags(all_=list(tags)) if tags else None,
            state=FlowRunFilterState(type=FlowRunFilterStateType(not_any_=list(TERMINAL_STATES)))
            if live
            else None,
            expected_start_time=None
            if chunk or planned
            else FlowRunFilterExpectedStartTime(before_=datetime.now(UTC) + timedelta(minutes=1)),
        )
        while len(found) < most:
            page = client.read_flow_runs(
                flow_filter=trains,
                flow_run_filter=wanted,
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=PAGE,
                offset=offset,
            )
            found |= {run.id: run for run in page}
            offset += len(page)
            if len(page) < PAGE:
                break
    return list(found.values())


def _flow_run_facts(
    client: SyncPrefectClient, runs: Sequence[RunFacts], group: str
) -> dict[str, FlowRunFacts]:
    """Flow runs that train, and those behind MLflow runs, by id."""
    from tasks.trainings.listing import facts

    found = {
        str(run.id): run
        for run in flow_runs(client, tags=[GROUP_TAG + group] if group else (), most=MOST_FLOW_RUNS)
    }
    behind = {run.flow_run_id for run in runs}
    if not group:
        found |= {str(run.id): run for run in flow_runs(client, ids=behind - found.keys())}
    flow_ids = list({run.flow_id for run in found.values()})
    names = {
        flow.id: flow.name
        for flow in (
            client.read_flows(flow_filter=FlowFilter(id=FlowFilterId(any_=flow_ids))) if flow_ids else []
        )
    }
    completed = [
        run.id for key, run in found.items() if run.state_type is StateType.COMPLETED and key not in behind
    ]
    reused = _reused(client, completed)
    return {
        key: facts(run, names.get(run.flow_id, ""), url_for("flow-run", run.id) or "", reused.get(key, ""))
        for key, run in found.items()
    }


def _reused(client: SyncPrefectClient, flow_runs: Sequence[UUID]) -> dict[str, str]:
    """The MLflow runs whose results flow runs took from the cache: their pages link to them."""
    found: dict[str, str] = {}
    for start in range(0, len(flow_runs), PAGE):
        for artifact in client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["training-summary"])),
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(flow_runs[start : start + PAGE]))),
        ):
            match = _RUN_OF_PAGE.search(str(artifact.data))
            if match:
                found[str(artifact.flow_run_id)] = match.group(1)
    return found


def find_flow_run(client: SyncPrefectClient, identity: str) -> FlowRun:
    try:
        return client.read_flow_run(UUID(identity))
    except (ObjectNotFound, ValueError):
        raise NotFound(
            f"There is no flow run {identity}", mend="take the id from the list of trainings"
        ) from None


def is_draft(run: FlowRun) -> bool:
    return run.state_type is StateType.PAUSED and run.state_name == DRAFT


def require_own(what: FlowRun | DeploymentResponse, user: str, act: str) -> None:
    owner = user_of(what.tags)
    if owner != user:
        raise NotAllowed(
            f"The user {user} may not {act} {what.name}",
            allowed=f"its owner {owner}",
            mend=f"ask {owner}",
        )


def job_variables_of(client: SyncPrefectClient, run: RunFacts) -> dict[str, Any]:
    """The job variables that the flow run behind a training ran with, as far as it is still known."""
    found: dict[str, Any] = {}
    for flow_run in flow_runs(client, ids=[run.flow_run_id]):
        if flow_run.deployment_id is not None:
            with suppress(ObjectNotFound):
                found |= client.read_deployment(flow_run.deployment_id).job_variables
        found |= flow_run.job_variables or {}
    return found


def find_templates(client: SyncPrefectClient) -> list[DeploymentResponse]:
    found: list[DeploymentResponse] = []
    while True:
        page = client.read_deployments(
            deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[TEMPLATE_TAG])),
            flow_filter=FlowFilter(name=FlowFilterName(any_=[TEMPLATE_FLOW])),
            limit=PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < PAGE:
            return found


def mlflow_client(site: str) -> MlflowClient:
    return cast(MlflowServer, MlflowServer.load(site)).client()


def runs_of(flow_run_id: str, site: str) -> list[RunFacts]:
    """Trainings and searches of a flow run that stand by themselves."""
    from tasks.trainings import records

    found = records.of_flow_run(mlflow_client(site), flow_run_id)
    mine = {one.run_id for one in found}
    return [one for one in found if one.parent not in mine]


def read_run(identity: str, site: str) -> RunFacts:
    """The MLflow run of a training, by its own id or its flow run's.

    Raises:
        NotFound: There is none, it was deleted, or it is on somebody else's private dataset.
    """
    from tasks.trainings import records

    if is_flow_run(identity):
        found = runs_of(identity, site)
        if len(found) != 1:
            names = ", ".join(f"{one.name} ({one.run_id})" for one in found)
            raise NotFound(
                f"The flow run {identity} has {len(found)} MLflow runs",
                allowed=names or "a flow run that has trained",
                mend="give the id of one of them" if found else "take the id from the list of trainings",
            )
        run = found[0]
    else:
        run = records.read(mlflow_client(site), identity)
    records.require_training(run)
    if open_store(site).hides(run.dataset.partition("@")[0]):
        raise NotFound(f"MLflow has no run {identity}", mend="take the id from the list of trainings")
    return run


def train_parameters(run: RunFacts, site: str) -> dict[str, Any]:
    """The parameters of the flow `train` that make this training again.

    Raises:
        NotFound: They were not kept.
    """
    from tasks.trainings import records

    if not run.is_training:
        raise NotFound(
            f"{run.name} is a search, no training",
            where=f"run {run.run_id}",
            mend="take its best run, or the flow run, which is copied as it was",
        )
    ref = run.dataset_ref()
    settings = records.settings(mlflow_client(site), run)
    if settings is None:
        raise NotFound(
            f"The settings of the training {run.name} were not kept",
            where=f"run {run.run_id}",
            mend="train again",
        )
    own = {**settings, "output": ""}  # that file is written, and is not written over
    if run.parent:  # its share of a sweep's time; by itself it has no such bound
        own["max_time_s"] = None
    return {"dataset": {"name": ref.name, "version": ref.version}, "training": own, "site": site}
