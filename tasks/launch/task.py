"""Prefect tasks that start trainings, or only set them up: groups, drafts and copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun, State, StateDetails, StateType
from prefect.client.schemas.responses import DeploymentResponse, SetStateStatus
from prefect.exceptions import ObjectNotFound, ParameterTypeError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.logging import get_run_logger
from prefect.runtime import flow_run as this_flow_run
from prefect.states import Scheduled
from prefect.utilities.callables import parameter_schema
from prefect.utilities.urls import url_for
from pydantic import BaseModel, ValidationError

from tasks.containers.task import image_variables
from tasks.containers.variables import image_of
from tasks.data.config import DatasetChoice
from tasks.data.task import asking_user, open_store
from tasks.errors import InvalidSettings, NotAllowed, NotFound, TrainyardError, Unavailable
from tasks.launch import changes as sets
from tasks.launch import checks
from tasks.launch.config import CopyConfig, DraftConfig, GroupConfig, StartConfig
from tasks.refs import USER_TAG
from tasks.train.config import TrainConfig
from tasks.trainings.config import ListConfig, is_flow_run
from tasks.trainings.status import DRAFT
from tasks.trainings.tags import COPY_TAG, GROUP_TAG, SET_TAG
from tasks.trainings.task import (
    PAGE,
    TRAINING_FLOWS,
    find_flow_run,
    flow_runs,
    is_draft,
    job_variables_of,
    publish_list,
    read_run,
    require_own,
    train_parameters,
)
from tasks.workspace.plan import TAG as WORKSPACE_TAG
from tasks.workspace.task import stop_job

TRAIN = "train/step"
"""The deployment that one training is run by."""


@task(name="start group", task_run_name="start group {config.name}")
def start_group(
    config: GroupConfig,
    dataset: DatasetChoice | None = None,
    training: TrainConfig | None = None,
    site: str = "local",
) -> list[str]:
    """Start, or draft, a training for every set of settings; all are checked before the first is started.

    Run again, after a kill or with more sets, it starts what the group lacks: what waits, runs or has
    succeeded is left alone, and no set is started twice by one flow run.

    Returns:
        The flow runs of the group, in the order of its sets.
    """
    log = get_run_logger()
    expanded = sets.expanded(config)
    with get_client(sync_client=True) as client:
        deployment, flow, image = _place(client, config.deployment, config)
        base = sets.merged(deployment.parameters, config.parameters, _given(flow, dataset, training))
        every = _checked(flow, base, expanded, site)
        there = _there(client, config.name)
        started = datetime.now(UTC)
        ids = []
        for number, (changed, parameters) in enumerate(zip(expanded, every, strict=True)):
            digest = sets.digest(parameters, image)
            same = there.get(digest)
            if same is not None:
                ids.append(str(same.id))
                continue
            made = client.create_flow_run_from_deployment(
                deployment.id,
                name=f"{config.name} {number + 1}: {sets.said(changed)}"[:200],
                parameters=parameters,
                # They are due one after the other, so the queue keeps their order.
                state=_draft()
                if config.draft
                else Scheduled(scheduled_time=started + timedelta(milliseconds=number)),
                tags=_tags(GROUP_TAG + config.name, SET_TAG + sets.said(changed)[:100]),
                work_queue_name=config.queue,
                job_variables=image,
                idempotency_key=f"{config.name}:{this_flow_run.id}:{digest}",
            )
            ids.append(str(made.id))
    kept = {str(run.id) for run in there.values()} & set(ids)
    log.info("Group %s: %d of %d are new.", config.name, len(ids) - len(kept), len(ids))
    publish_list(ListConfig(group=config.name, sort="oldest", limit=1_000), site, key="group")
    return ids


@task(name="stop group", task_run_name="stop group {group}")
def stop_group(group: str, site: str = "local") -> list[str]:
    """Stop every training of a group that has not ended, those that wait first; returns their flow runs.

    Raises:
        NotFound: There is no such group.
        NotAllowed: One of them is somebody else's; the others are stopped.
    """
    with get_client(sync_client=True) as client:
        runs = _group(client, group)
    user, stopped = asking_user(), []
    refused: list[TrainyardError] = []
    live = [run for run in runs if run.state is None or not run.state.is_final()]
    live.sort(key=lambda run: run.start_time is not None)  # or a place that gets free is taken by the next
    for run in live:
        try:
            stop_job.fn(str(run.id), user)
        except Unavailable:
            continue  # it ended meanwhile
        except (NotAllowed, NotFound) as error:  # somebody else's, or of a workspace that is gone
            refused.append(error)
        else:
            stopped.append(str(run.id))
    publish_list(ListConfig(group=group, sort="oldest", limit=1_000), site, key="group")
    if refused:
        raise refused[0]
    return stopped


@task(name="draft training")
def draft_training(
    config: DraftConfig, dataset: DatasetChoice, training: TrainConfig, site: str = "local"
) -> str:
    """Set a training up without starting it; returns its flow run, in the state Draft."""
    with get_client(sync_client=True) as client:
        deployment, flow, image = _place(client, TRAIN, config)
        base = sets.merged(deployment.parameters, _given(flow, dataset, training))
        (parameters,) = _checked(flow, base, [{}], site)
        made = client.create_flow_run_from_deployment(
            deployment.id,
            name=config.name or f"train {dataset.name}",
            parameters=parameters,
            state=_draft(),
            tags=_tags(),
            work_queue_name=config.queue,
            job_variables=image,
            idempotency_key=f"draft:{this_flow_run.id}",
        )
    _tell(made, "draft", f"Draft of a training on {dataset.name}: press Resume on its page to start it")
    return str(made.id)


@task(name="start trainings")
def start_trainings(config: StartConfig) -> list[str]:
    """Start drafts; returns their flow runs.

    Raises:
        NotFound: One is not there; none is started.
        NotAllowed: One is no draft any more, or somebody else's; none is started.
    """
    user = asking_user()
    with get_client(sync_client=True) as client:
        runs = [find_flow_run(client, identity) for identity in config.drafts]
        if config.group:
            runs += [run for run in _group(client, config.group) if is_draft(run)]
        for run in runs:
            if not is_draft(run):
                raise NotAllowed(
                    f"The flow run {run.name} is no draft: it is {run.state_name}",
                    where=f"flow run {run.id}",
                    mend="take drafts from the list of trainings",
                )
            require_own(run, user, "start")
        started = []
        for run in sorted({run.id: run for run in runs}.values(), key=lambda run: run.created or 0):
            answer = client.resume_flow_run(run.id)
            if answer.status is not SetStateStatus.ACCEPT:
                raise Unavailable(f"The draft {run.name} was not started: {answer.details}")
            started.append(str(run.id))
    return started


@task(name="copy training", task_run_name="copy {config.training}")
def copy_training(config: CopyConfig, site: str = "local") -> str:
    """Run a training again with some settings changed, or draft it; returns the new flow run.

    The copy of an MLflow run is one training on the very dataset version. The copy of a flow run is a run
    of the same deployment with the parameters as they were given. Either runs in the image of the original.
    """
    user = asking_user()
    with get_client(sync_client=True) as client:
        original = find_flow_run(client, config.training) if is_flow_run(config.training) else None
        if original is not None:
            if original.deployment_id is None:
                raise NotAllowed(
                    f"The flow run {original.name} was not started by a deployment",
                    where=f"flow run {original.id}",
                    mend="copy its MLflow run",
                )
            base = dict(original.parameters)
            if "training" in base and original.state is not None and original.state.is_completed():
                base["training"] = {**base["training"], "output": ""}  # the original has written it
            deployment, flow, image = _place(client, original.deployment_id, config, original.job_variables)
        else:
            run = read_run(config.training, site)
            base = train_parameters(run, site)
            deployment, flow, image = _place(client, TRAIN, config, job_variables_of(client, run))
        if config.replace:
            if original is None or not is_draft(original):
                raise NotAllowed(
                    "Only a draft can be replaced",
                    where=f"training {config.training}",
                    mend="leave replace off: the original stays",
                )
            require_own(original, user, "replace")
        (parameters,) = _checked(flow, base, [config.changes], site)
        said = sets.said(config.changes)
        made = client.create_flow_run_from_deployment(
            deployment.id,
            name=config.name or f"copy of {config.training[:8]}" + (f": {said}" if said else ""),
            parameters=parameters,
            state=_draft() if config.draft else Scheduled(),
            tags=_tags(COPY_TAG + config.training),
            work_queue_name=config.queue,
            job_variables=image,
            idempotency_key=f"copy:{this_flow_run.id}",
        )
        if config.replace and original is not None:
            client.delete_flow_run(original.id)
    _tell(made, "copy", f"Copy of {config.training}" + (f" with {said}" if said else ""))
    return str(made.id)


def _place(
    client: SyncPrefectClient,
    which: str | UUID,
    config: GroupConfig | DraftConfig | CopyConfig,
    earlier: Mapping[str, Any] | None = None,
) -> tuple[DeploymentResponse, Flow[..., Any], dict[str, Any]]:
    """What is run and where: a deployment that trains, its flow, and the job variables of the image.

    Args:
        client: Prefect.
        which: The deployment.
        config: Names the queue and the image.
        earlier: Job variables of the flow run that is copied.
    """
    deployment, flow = _deployment(client, which)
    _require_queue(client, deployment, config.queue)
    return deployment, flow, image_variables(client, deployment, config.image, earlier)


def _deployment(client: SyncPrefectClient, which: str | UUID) -> tuple[DeploymentResponse, Flow[..., Any]]:
    """A deployment that trains, and its flow."""
    try:
        found = (
            client.read_deployment(which)
            if isinstance(which, UUID)
            else client.read_deployment_by_name(which)
        )
    except ObjectNotFound:
        trains = client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(TRAINING_FLOWS))), limit=PAGE
        )
        flows = {flow.id: flow.name for flow in client.read_flows(limit=PAGE)}
        known = ", ".join(sorted(f"{flows.get(one.flow_id, '')}/{one.name}" for one in trains))
        raise NotFound(f"There is no deployment {which}", allowed=known or "none is registered") from None
    flow_name = client.read_flow(found.flow_id).name
    if flow_name not in TRAINING_FLOWS:
        raise InvalidSettings(
            f"The deployment {flow_name}/{found.name} trains nothing",
            allowed=f"deployments of the flows {', '.join(TRAINING_FLOWS)}",
        )
    if not found.entrypoint:
        raise InvalidSettings(f"The deployment {which} does not say which flow it runs")
    return found, load_flow_from_entrypoint(found.entrypoint)


def _require_queue(client: SyncPrefectClient, deployment: DeploymentResponse, queue: str) -> None:
    """Prefect makes a queue that is not there, and nobody may be serving it."""
    if deployment.work_pool_name is None:
        return
    try:
        client.read_work_queue_by_name(queue, work_pool_name=deployment.work_pool_name)
    except ObjectNotFound:
        known = client.read_work_queues(work_pool_name=deployment.work_pool_name)
        raise NotFound(
            f"There is no work queue {queue}",
            where=f"work pool {deployment.work_pool_name}",
            allowed=", ".join(sorted(one.name for one in known)),
        ) from None


def _given(
    flow: Flow[..., Any], dataset: DatasetChoice | None, training: TrainConfig | None
) -> dict[str, Any]:
    """What the form says besides changes, where the flow takes it."""
    given: dict[str, BaseModel | None] = {"dataset": dataset, "training": training}
    names = parameter_schema(flow).properties
    unfit = [name for name, value in given.items() if value is not None and name not in names]
    if unfit:
        raise InvalidSettings(
            f"The flow {flow.name} takes no {' and no '.join(unfit)}",
            allowed=", ".join(names),
            mend="leave it empty, and give the deployment's own parameters",
        )
    return {name: value.model_dump(mode="json") for name, value in given.items() if value is not None}


def _checked(
    flow: Flow[..., Any], base: Mapping[str, Any], every: Sequence[Mapping[str, Any]], site: str
) -> list[dict[str, Any]]:
    """The parameters of each set, all checked before the first of them is used."""

    def valid(parameters: dict[str, Any]) -> Mapping[str, Any]:
        try:
            return flow.validate_parameters(parameters)
        except ParameterTypeError as error:
            if isinstance(error.__cause__, ValidationError):
                raise error.__cause__ from None
            raise TypeError(str(error)) from None

    names = list(parameter_schema(flow).properties)
    return checks.checked(flow.name, names, valid, base, every, open_store(site))


def _there(client: SyncPrefectClient, group: str) -> dict[str, FlowRun]:
    """Flow runs of a group that need not be started again, by the digest of their parameters and image."""
    return {
        sets.digest(run.parameters, image_of(run.job_variables)): run
        for run in flow_runs(client, tags=[GROUP_TAG + group])
        if run.state is None or not run.state.is_final() or run.state.is_completed()
    }


def _group(client: SyncPrefectClient, group: str) -> list[FlowRun]:
    runs = flow_runs(client, tags=[GROUP_TAG + group])
    if not runs:
        raise NotFound(f"There is no group {group}", mend="take its name from the list of trainings")
    return runs


def _draft() -> State[Any]:
    """A state that no worker picks up, that never expires, and that Resume on the run's page ends."""
    return State(
        type=StateType.PAUSED,
        name=DRAFT,
        message="Not started yet.",
        state_details=StateDetails(pause_reschedule=True),
    )


def _tags(*more: str) -> list[str]:
    """Tags of a flow run that is made here: whose it is and in which workspace, as of this one."""
    carried = [tag for tag in this_flow_run.tags if tag.startswith((USER_TAG, WORKSPACE_TAG))]
    return [*carried, *more]


def _tell(made: FlowRun, key: str, about: str) -> None:
    page = url_for("flow-run", made.id) or ""
    create_markdown_artifact(
        f"[{made.name}]({page})\n\nFlow run `{made.id}`, {made.state_name}.", key=key, description=about
    )
    get_run_logger().info("%s: flow run %s.", about, made.id)
