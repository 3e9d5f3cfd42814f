"""Prefect tasks on trainings: groups, drafts and copies, the list, templates, rename, delete, restore."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
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
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateDetails, StateType
from prefect.client.schemas.responses import DeploymentResponse, SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, ParameterTypeError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.logging import get_run_logger
from prefect.runtime import flow_run as this_flow_run
from prefect.states import Scheduled
from prefect.utilities.callables import parameter_schema
from prefect.utilities.urls import url_for
from pydantic import BaseModel, ValidationError

from blocks.endpoint_host import EndpointHost
from blocks.mlflow_server import MlflowServer
from tasks.data.config import DatasetChoice, IngestConfig
from tasks.data.task import asking_user, open_store
from tasks.errors import InvalidSettings, NotAllowed, NotFound, TrainyardError, Unavailable
from tasks.home import home
from tasks.refs import LOCAL_USER, USER_TAG, DatasetRef, Problem
from tasks.train.config import TrainConfig
from tasks.trainings import changes as sets
from tasks.trainings.config import (
    CopyConfig,
    DeleteConfig,
    DraftConfig,
    ExperimentConfig,
    GroupConfig,
    ListConfig,
    RenameConfig,
    StartConfig,
    TemplateConfig,
    TemplateData,
)
from tasks.trainings.status import DRAFT
from tasks.workspace.plan import TAG as WORKSPACE_TAG
from tasks.workspace.task import stop_job

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tasks.trainings.listing import FlowRunFacts
    from tasks.trainings.records import RunFacts

TRAINING_FLOWS = ("train", "retrain", "tune", "sweep", "train-from-template")
"""Flows whose runs are trainings."""
TRAIN = "train/step"
"""The deployment that one training is run by."""
GROUP_TAG = "group:"
SET_TAG = "set:"
DELETED_TAG = "training-deleted"
TEMPLATE_TAG = "template"
FROM_RUN_TAG = "from-run:"
TEMPLATE_FLOW = "train-from-template"
TEMPLATE_ENTRYPOINT = "flows.templates.train_from_template"
TEMPLATE_POOL, TEMPLATE_QUEUE = "local", "default"
MOST_TAGS = 10

PAGE = 200
"""Items that one request asks for: the most that the server gives."""
MOST_FLOW_RUNS = 5_000
_RUN_OF_PAGE = re.compile(r"/runs/([0-9a-f]{32})")


# Groups, drafts and copies: flow runs that are made here.


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
        deployment, flow = _deployment(client, config.deployment)
        _require_queue(client, deployment, config.queue)
        base = sets.merged(deployment.parameters, config.parameters, _given(flow, dataset, training))
        every = _checked(flow, base, expanded, site)
        there = _there(client, config.name)
        started = datetime.now(UTC)
        ids = []
        for number, (changed, parameters) in enumerate(zip(expanded, every, strict=True)):
            same = there.get(sets.digest(parameters))
            if same is not None:
                ids.append(str(same.id))
                continue
            made = client.create_flow_run_from_deployment(
                deployment.id,
                name=f"{config.name} {number + 1}: {sets.said(changed)}"[:200],
                parameters=parameters,
                # They are due one after the other, so the queue keeps their order.
                state=_draft() if config.draft else Scheduled(scheduled_time=started + timedelta(milliseconds=number)),
                tags=_tags(GROUP_TAG + config.name, SET_TAG + sets.said(changed)[:100]),
                work_queue_name=config.queue,
                idempotency_key=f"{config.name}:{this_flow_run.id}:{sets.digest(parameters)}",
            )
            ids.append(str(made.id))
    kept = {str(run.id) for run in there.values()} & set(ids)
    log.info("Group %s: %d of %d are new.", config.name, len(ids) - len(kept), len(ids))
    _publish(ListConfig(group=config.name, sort="oldest", limit=1_000), site, key="group")
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
    user, stopped, refused = asking_user(), [], []
    live = [run for run in runs if run.state is None or not run.state.is_final()]
    live.sort(key=lambda run: run.start_time is not None)  # or a place that gets free is taken by the next
    for run in live:
        try:
            stop_job.fn(str(run.id), user)
        except Unavailable:
            continue  # it ended meanwhile
        except NotAllowed as error:
            refused.append(error)
        else:
            stopped.append(str(run.id))
    _publish(ListConfig(group=group, sort="oldest", limit=1_000), site, key="group")
    if refused:
        raise refused[0]
    return stopped


@task(name="draft training")
def draft_training(
    config: DraftConfig, dataset: DatasetChoice, training: TrainConfig, site: str = "local"
) -> str:
    """Set a training up without starting it; returns its flow run, in the state Draft."""
    with get_client(sync_client=True) as client:
        deployment, flow = _deployment(client, TRAIN)
        _require_queue(client, deployment, config.queue)
        base = sets.merged(deployment.parameters, _given(flow, dataset, training))
        (parameters,) = _checked(flow, base, [{}], site)
        made = client.create_flow_run_from_deployment(
            deployment.id,
            name=config.name or f"train {dataset.name}",
            parameters=parameters,
            state=_draft(),
            tags=_tags(),
            work_queue_name=config.queue,
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
        runs = [_flow_run(client, identity) for identity in config.drafts]
        if config.group:
            runs += [run for run in _group(client, config.group) if _is_draft(run)]
        for run in runs:
            if not _is_draft(run):
                raise NotAllowed(
                    f"The flow run {run.name} is no draft: it is {run.state_name}",
                    where=f"flow run {run.id}",
                    mend="take drafts from the list of trainings",
                )
            _require_own(run, user, "start")
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
    of the same deployment with the parameters as they were given.
    """
    user = asking_user()
    with get_client(sync_client=True) as client:
        original = _flow_run(client, config.training) if _is_flow_run(config.training) else None
        if original is not None:
            if original.deployment_id is None:
                raise NotAllowed(
                    f"The flow run {original.name} was not started by a deployment",
                    where=f"flow run {original.id}",
                    mend="copy its MLflow run",
                )
            base = dict(original.parameters)
            deployment, flow = _deployment(client, original.deployment_id)
        else:
            run = _read_run(config.training, site)
            base = _parameters(client, run, site)
            deployment, flow = _deployment(client, TRAIN)
        if config.replace:
            if original is None or not _is_draft(original):
                raise NotAllowed(
                    "Only a draft can be replaced",
                    where=f"training {config.training}",
                    mend="leave replace off: the original stays",
                )
            _require_own(original, user, "replace")
        _require_queue(client, deployment, config.queue)
        (parameters,) = _checked(flow, base, [config.changes], site)
        said = sets.said(config.changes)
        made = client.create_flow_run_from_deployment(
            deployment.id,
            name=config.name or f"copy of {config.training[:8]}" + (f": {said}" if said else ""),
            parameters=parameters,
            state=_draft() if config.draft else Scheduled(),
            tags=_tags(f"copy-of:{config.training}"),
            work_queue_name=config.queue,
            idempotency_key=f"copy:{this_flow_run.id}",
        )
        if config.replace and original is not None:
            client.delete_flow_run(original.id)
    _tell(made, "copy", f"Copy of {config.training}" + (f" with {said}" if said else ""))
    return str(made.id)


# The list.


@task(name="list trainings")
def list_trainings(config: ListConfig, site: str = "local") -> list[dict[str, str]]:
    """List trainings, and publish the list as the artifact `trainings`."""
    return _publish(config, site)


def _publish(config: ListConfig, site: str, key: str = "trainings") -> list[dict[str, str]]:
    from tasks.trainings import listing, records

    server = cast(MlflowServer, MlflowServer.load(site))
    mlflow = server.client()
    runs = records.trainings(mlflow)
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
    create_markdown_artifact(listing.render(shown, len(fitting)), key=key, description=about)
    return listing.rows(shown)


# Rename, delete, restore.


@task(name="rename training", task_run_name="rename {config.training}")
def rename_training(config: RenameConfig, site: str = "local") -> str:
    """Give a training another name, description or tags; returns its name.

    Raises:
        NotFound: There is no such training, or it has no MLflow run yet.
        NotAllowed: It is somebody else's.
        InvalidSettings: It would have more than ten tags of its own.
    """
    from tasks.trainings import deletion, records

    mlflow = _mlflow(site)
    run = _read_run(config.training, site)
    deletion.require_owner(run, _user_of(run.flow_run_id), asking_user(), "rename")
    kept = {**run.own_tags, **config.tags}
    if len([name for name, value in kept.items() if value]) > MOST_TAGS:
        raise InvalidSettings(
            f"The training would have {len(kept)} tags of its own",
            where=f"run {run.run_id}",
            allowed=f"up to {MOST_TAGS}",
            mend="take some away, with an empty value",
        )
    if config.name:
        mlflow.update_run(run.run_id, name=config.name)
    if config.description is not None:
        mlflow.set_tag(run.run_id, records.NOTE_TAG, config.description)
    for name, value in config.tags.items():
        if value:
            mlflow.set_tag(run.run_id, name, value)
        elif name in run.own_tags:
            mlflow.delete_tag(run.run_id, name)
    return config.name or run.name


@task(name="delete training", task_run_name="delete {config.training}")
def delete_training(config: DeleteConfig, site: str = "local") -> list[str]:
    """Delete a training, unless something stands on it; returns what went, or would go, one line each.

    A draft or a flow run that left nothing in MLflow is deleted in Prefect.

    Raises:
        NotFound: There is no such training.
        NotAllowed: It is somebody else's, runs, or is in use; the message says by what and how to mend it.
    """
    from tasks.trainings import deletion

    if _is_flow_run(config.training) and not _runs_of(config.training, site):
        return _delete_flow_run(config)
    mlflow = _mlflow(site)
    run = _read_run(config.training, site)
    user = asking_user()
    deletion.require_owner(run, _user_of(run.flow_run_id), user, "delete")
    what = deletion.doomed(mlflow, run, home() / "work" / "train")
    with get_client(sync_client=True) as client:
        flow_runs = _alone_in(client, what.runs, mlflow)
        found = deletion.obstacles(
            mlflow,
            what,
            live=_live(client, {one.flow_run_id for one in what.runs}),
            endpoints=lambda model: _endpoints(model, site),
            templates=lambda run_id: _templates_of(client, run_id),
        )
        artifacts = _artifacts(client, flow_runs) if config.for_good else {}
        lines = deletion.listing(what, config.for_good)
        lines += [f"artifact {key} of flow run {run_id}" for key, run_id in artifacts.values()]
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
    from tasks.trainings import deletion, records

    mlflow = _mlflow(site)
    run = records.read(mlflow, run_id)
    deletion.require_owner(run, _user_of(run.flow_run_id), asking_user(), "restore")
    back = deletion.restore(mlflow, run)
    with get_client(sync_client=True) as client:
        for one in _flow_runs(client, ids={one.flow_run_id for one in back}):
            client.update_flow_run(one.id, tags=sorted(set(one.tags) - {DELETED_TAG}))
    return [one.run_id for one in back]


@task(name="delete experiment", task_run_name="delete experiment {config.name}")
def delete_experiment(config: ExperimentConfig, site: str = "local") -> list[str]:
    """Delete an experiment without trainings; its name is free then.

    Raises:
        NotFound: There is no such experiment.
        NotAllowed: It has trainings, or belongs to a workspace.
    """
    from tasks.trainings import deletion

    mlflow = _mlflow(site)
    found = deletion.experiment_obstacles(mlflow, config.name)
    lines = [f"MLflow experiment {config.name}"]
    if config.dry_run:
        return _would_go(lines, found)
    deletion.require_none(f"experiment {config.name}", found)
    deletion.delete_experiment(mlflow, config.name)
    return _went(
        f"Deleted the experiment {config.name}",
        lines,
        f"`restore-experiment` with `{config.name}` undoes it.",
    )


@task(name="restore experiment", task_run_name="restore experiment {name}")
def restore_experiment(name: str, site: str = "local") -> str:
    """Undo the last deletion of an experiment; returns its id."""
    from tasks.trainings import deletion

    return deletion.restore_experiment(_mlflow(site), name)


# Templates: deployments with everything fixed but the data.


@task(name="save template", task_run_name="save template {config.name}")
def save_template(config: TemplateConfig, flow: Flow[..., Any], site: str = "local") -> str:
    """Make a finished training a deployment whose form asks for the data alone; returns its name.

    Args:
        config: The training, and what the template is called.
        flow: The flow that runs templates.
        site: Which set of blocks to use.

    Raises:
        NotFound: There is no such training, or its dataset is gone.
        NotAllowed: A template of this name is there.
    """
    from tasks.trainings import listing, template

    server = cast(MlflowServer, MlflowServer.load(site))
    server.client()
    run = _read_run(config.training, site)
    user = asking_user()
    with get_client(sync_client=True) as client:
        there = _template(client, config.name)
        if there is not None:
            if not config.replace:
                raise NotAllowed(
                    f"There is a template {config.name}",
                    where="template",
                    mend="choose another name, or set replace",
                )
            _require_own(there, user, "replace")
        settings = _parameters(client, run, site)["training"]
        made = template.made_from(run, settings, open_store(site))
        about = template.described(run, made, listing.mlflow_page(server.tracking_uri, run))
        schema = parameter_schema(flow).model_dump_for_openapi()
        schema["properties"] = {"data": schema["properties"]["data"]}  # the only thing to fill in
        schema["required"] = ["data"]
        client.create_deployment(
            flow_id=client.create_flow_from_name(flow.name),
            name=config.name,
            entrypoint=TEMPLATE_ENTRYPOINT,
            parameters={**made.model_dump(mode="json"), "site": site},
            parameter_openapi_schema=schema,
            enforce_parameter_schema=True,
            description="\n\n".join(filter(None, [config.description, about])),
            tags=[TEMPLATE_TAG, f"problem:{made.problem.value}", FROM_RUN_TAG + run.run_id, USER_TAG + user],
            work_pool_name=TEMPLATE_POOL,
            work_queue_name=TEMPLATE_QUEUE,
            job_variables={},
            pull_steps=[],
        )
    name = f"{TEMPLATE_FLOW}/{config.name}"
    create_markdown_artifact(
        f"# {config.name}\n\n{about}\n\nRun it: the deployment `{name}` asks for the data alone.",
        key="template",
        description=f"Template {config.name}",
    )
    return name


@task(name="delete template", task_run_name="delete template {name}")
def delete_template(name: str) -> None:
    """Delete a template of one's own; trainings that it made stay.

    Raises:
        NotFound: There is none.
        NotAllowed: It is somebody else's.
    """
    with get_client(sync_client=True) as client:
        there = _template(client, name)
        if there is None:
            known = ", ".join(sorted(one.name for one in _templates(client))) or "none is there yet"
            raise NotFound(f"There is no template {name}", allowed=known)
        _require_own(there, asking_user(), "delete")
        client.delete_deployment(there.id)


@task(name="list templates")
def list_templates() -> list[dict[str, str]]:
    """List templates, and publish the list as the artifact `templates`."""
    from tasks.report.markdown import cell, link, table
    from tasks.trainings.listing import value_of

    with get_client(sync_client=True) as client:
        found = sorted(_templates(client), key=lambda one: one.name)
    lines = [
        {
            "template": one.name,
            "problem": value_of(one.tags, "problem:"),
            "algorithm": str(one.parameters["training"]["algorithm"]),
            "steps": " → ".join(step["method"] for step in one.parameters["preprocessing"]["steps"]),
            "from run": value_of(one.tags, FROM_RUN_TAG),
            "user": value_of(one.tags, USER_TAG),
            "made": one.created.strftime("%Y-%m-%d %H:%M") if one.created else "",
            "page": url_for("deployment", one.id) or "",
        }
        for one in found
    ]
    shown = [
        [
            link(line["template"], line["page"]),
            *(cell(line[key]) for key in ("problem", "algorithm", "steps")),
            f"`{line['from run']}`",
            *(cell(line[key]) for key in ("user", "made")),
        ]
        for line in lines
    ]
    head = ["template", "problem", "algorithm", "steps", "from run", "user", "made"]
    create_markdown_artifact(
        table(head, shown) if shown else "No template is saved yet.",
        key="templates",
        description=f"{len(lines)} templates",
    )
    return lines


@task(name="ingestion for template", task_run_name="data of {data.name}")
def template_source(data: TemplateData, problem: Problem) -> IngestConfig | None:
    """How new data for a template is ingested; None where a stored dataset is taken."""
    from tasks.trainings.template import ingestion

    return ingestion(data, problem) if data.source else None


@task(name="check template", task_run_name="check {ref.name} for template")
def require_fits_template(ref: DatasetRef, problem: Problem) -> DatasetRef:
    """Check that a dataset poses the problem of a template, before anything is done with it."""
    from tasks.trainings.template import require_fits

    require_fits(ref, problem)
    return ref


# What Prefect is asked.


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
    """The parameters of each set, all checked as far as can be without the data.

    Raises:
        InvalidSettings: Some cannot be run; all that is wrong with any of them is said.
    """
    names = list(parameter_schema(flow).properties)
    faults: list[tuple[int, Mapping[str, Any], Iterable[str]]] = []
    seen: dict[str, int] = {}
    result = []
    look_up = _LookUp(site)
    for number, changed in enumerate(every, start=1):
        try:
            parameters = sets.applied(base, changed, names)
            wrong = _wrong(flow, parameters, look_up)
        except TrainyardError as error:
            faults.append((number, changed, [str(error)]))
            continue
        twin = seen.setdefault(sets.digest(parameters), number)
        if twin != number:
            wrong.append(f"it is the same as set {twin}")
        if wrong:
            faults.append((number, changed, wrong))
        result.append(parameters)
    if len(every) == 1 and faults:
        raise InvalidSettings("; ".join(faults[0][2]), where=f"parameters of the flow {flow.name}")
    sets.require_all(faults, len(every))
    return result


def _wrong(flow: Flow[..., Any], parameters: Mapping[str, Any], look_up: _LookUp) -> list[str]:
    """What is wrong with the parameters of a flow run; empty if nothing is."""
    try:
        valid = flow.validate_parameters(dict(parameters))
    except TrainyardError as error:  # what the algorithm cannot take
        return [str(error)]
    except ParameterTypeError as error:
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in cause.errors()]
        return [str(error)]
    except TypeError as error:  # names that the flow does not have, or lacks
        return [str(error)]
    training = valid.get("training")
    if not isinstance(training, TrainConfig) or valid.get("method", "train") != "train":
        return []
    try:
        problem, rows = look_up(valid)
        if problem is not None:
            training.resolve(problem, rows)
    except TrainyardError as error:
        return [str(error)]
    return []


class _LookUp:
    """The problem and the rows of the data of a flow run; each dataset is looked up once."""

    def __init__(self, site: str) -> None:
        self.site = site
        self._known: dict[tuple[str, str], tuple[Problem, int]] = {}

    def __call__(self, valid: Mapping[str, Any]) -> tuple[Problem | None, int]:
        dataset = valid.get("dataset")
        if isinstance(dataset, DatasetChoice):
            key = (dataset.name, dataset.version)
            if key not in self._known:
                manifest = open_store(self.site).get(*key)
                self._known[key] = (manifest.problem, manifest.rows)
            return self._known[key]
        data = valid.get("data")
        return (data.problem, 1) if isinstance(data, IngestConfig) else (valid.get("problem"), 1)


def _there(client: SyncPrefectClient, group: str) -> dict[str, FlowRun]:
    """Flow runs of a group that need not be started again, by the digest of their parameters."""
    return {
        sets.digest(run.parameters): run
        for run in _flow_runs(client, tags=[GROUP_TAG + group])
        if run.state is None or not run.state.is_final() or run.state.is_completed()
    }


def _group(client: SyncPrefectClient, group: str) -> list[FlowRun]:
    runs = _flow_runs(client, tags=[GROUP_TAG + group])
    if not runs:
        raise NotFound(f"There is no group {group}", mend="take its name from the list of trainings")
    return runs


def _flow_runs(
    client: SyncPrefectClient,
    *,
    tags: Sequence[str] = (),
    ids: Iterable[str] | None = None,
    most: int = 10**6,
) -> list[FlowRun]:
    """Flow runs that train, newest first, those left out that a schedule has planned for later.

    Args:
        client: Prefect.
        tags: Only with all these tags.
        ids: Only these; what is no id is passed over.
        most: Longest answer.
    """
    trains = FlowFilter(name=FlowFilterName(any_=list(TRAINING_FLOWS)))
    chunks: list[list[UUID] | None] = [None]
    if ids is not None:
        known = [UUID(one) for one in sorted(set(ids)) if _is_flow_run(one)]
        chunks = [known[start : start + PAGE] for start in range(0, len(known), PAGE)]
    found: dict[UUID, FlowRun] = {}
    for chunk in chunks:
        offset = 0
        wanted = FlowRunFilter(
            id=FlowRunFilterId(any_=chunk) if chunk else None,
            tags=FlowRunFilterTags(all_=list(tags)) if tags else None,
            expected_start_time=None
            if chunk
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
    from tasks.trainings.listing import FlowRunFacts

    found = {
        str(run.id): run
        for run in _flow_runs(client, tags=[GROUP_TAG + group] if group else (), most=MOST_FLOW_RUNS)
    }
    behind = {run.flow_run_id for run in runs}
    if not group:
        found |= {str(run.id): run for run in _flow_runs(client, ids=behind - found.keys())}
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
        key: FlowRunFacts(
            id=key,
            flow=names.get(run.flow_id, ""),
            name=run.name,
            state_type=run.state_type.value if run.state_type else "PENDING",
            state_name=run.state_name or "",
            message=(run.state.message or "") if run.state else "",
            tags=list(run.tags),
            parameters=run.parameters,
            due=run.expected_start_time,
            started=run.start_time,
            ended=run.end_time,
            duration_s=run.total_run_time.total_seconds(),
            page=url_for("flow-run", run.id) or "",
            reused=reused.get(key, ""),
        )
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


def _flow_run(client: SyncPrefectClient, identity: str) -> FlowRun:
    try:
        return client.read_flow_run(UUID(identity))
    except (ObjectNotFound, ValueError):
        raise NotFound(
            f"There is no flow run {identity}", mend="take the id from the list of trainings"
        ) from None


def _live(client: SyncPrefectClient, ids: Iterable[str]) -> list[str]:
    return [run.name for run in _flow_runs(client, ids=ids) if run.state and not run.state.is_final()]


def _alone_in(client: SyncPrefectClient, runs: Sequence[RunFacts], mlflow: MlflowClient) -> list[FlowRun]:
    """Flow runs that made these MLflow runs and no other that stays: their pages may go as well."""
    from tasks.trainings import records

    going = {run.run_id for run in runs}
    alone = {
        flow_run_id
        for flow_run_id in {run.flow_run_id for run in runs}
        if flow_run_id and {one.run_id for one in records.of_flow_run(mlflow, flow_run_id)} <= going
    }
    return _flow_runs(client, ids=alone)


def _artifacts(client: SyncPrefectClient, flow_runs: Sequence[FlowRun]) -> dict[UUID, tuple[str, str]]:
    """Artifacts of flow runs: id → key and flow run."""
    found: dict[UUID, tuple[str, str]] = {}
    for run in flow_runs:
        for artifact in client.read_artifacts(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])), limit=PAGE
        ):
            found[artifact.id] = (artifact.key or "without a key", str(run.id))
    return found


def _delete_flow_run(config: DeleteConfig) -> list[str]:
    with get_client(sync_client=True) as client:
        run = _flow_run(client, config.training)
        _require_own(run, asking_user(), "delete")
        found = []
        if client.read_flow(run.flow_id).name not in TRAINING_FLOWS:
            found.append("it is no training")
        if not _is_draft(run) and not (run.state and run.state.is_final()):
            found.append(f"it is {(run.state_name or 'under way').lower()}: stop it, or wait for its end")
        what = "draft" if _is_draft(run) else "flow run"
        lines = [f"{what} {run.name} ({run.id})"]
        if config.dry_run:
            return _would_go(lines, found)
        from tasks.trainings import deletion

        deletion.require_none(f"{what} {run.name}", found)
        client.delete_flow_run(run.id)
    return _went(f"Deleted {run.name}", lines, "It left nothing in MLflow.")


def _templates(client: SyncPrefectClient) -> list[DeploymentResponse]:
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


def _template(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    return next((one for one in _templates(client) if one.name == name), None)


def _templates_of(client: SyncPrefectClient, run_id: str) -> list[str]:
    return sorted(one.name for one in _templates(client) if FROM_RUN_TAG + run_id in one.tags)


def _draft() -> State[Any]:
    """A state that no worker picks up, that never expires, and that Resume on the run's page ends."""
    return State(
        type=StateType.PAUSED,
        name=DRAFT,
        message="Not started yet.",
        state_details=StateDetails(pause_reschedule=True),
    )


def _is_draft(run: FlowRun) -> bool:
    return run.state_type is StateType.PAUSED and run.state_name == DRAFT


def _is_flow_run(identity: str) -> bool:
    """Whether an id is a flow run's: MLflow writes its ids without dashes."""
    if "-" not in identity:
        return False
    try:
        UUID(identity)
    except ValueError:
        return False
    return True


def _tags(*more: str) -> list[str]:
    """Tags of a flow run that is made here: whose it is and in which workspace, as of this one."""
    carried = [tag for tag in this_flow_run.tags if tag.startswith((USER_TAG, WORKSPACE_TAG))]
    return [*carried, *more]


def _require_own(what: FlowRun | DeploymentResponse, user: str, act: str) -> None:
    from tasks.data.storage.access import user_of

    owner = user_of(what.tags)
    if owner != user:
        raise NotAllowed(
            f"The user {user} may not {act} {what.name}",
            allowed=f"its owner {owner}",
            mend=f"ask {owner}",
        )


def _user_of(flow_run_id: str) -> str:
    """Whose a flow run is, as far as it is still known."""
    from tasks.trainings.listing import value_of

    with get_client(sync_client=True) as client:
        for run in _flow_runs(client, ids=[flow_run_id]):
            return value_of(run.tags, USER_TAG)
    return LOCAL_USER


# What MLflow is asked.


def _mlflow(site: str) -> MlflowClient:
    return cast(MlflowServer, MlflowServer.load(site)).client()


def _runs_of(flow_run_id: str, site: str) -> list[RunFacts]:
    """Trainings and searches of a flow run that stand by themselves."""
    from tasks.trainings import records

    found = records.of_flow_run(_mlflow(site), flow_run_id)
    mine = {one.run_id for one in found}
    return [one for one in found if one.parent not in mine]


def _read_run(identity: str, site: str) -> RunFacts:
    """The MLflow run of a training, by its own id or its flow run's.

    Raises:
        NotFound: There is none, it was deleted, or it is on somebody else's private dataset.
    """
    from tasks.trainings import records

    if _is_flow_run(identity):
        found = _runs_of(identity, site)
        if len(found) != 1:
            names = ", ".join(f"{one.name} ({one.run_id})" for one in found)
            raise NotFound(
                f"The flow run {identity} has {len(found)} MLflow runs",
                allowed=names or "a flow run that has trained",
                mend="give the id of one of them" if found else "take the id from the list of trainings",
            )
        run = found[0]
    else:
        run = records.read(_mlflow(site), identity)
    if run.lifecycle != "active":
        raise NotFound(
            f"The training {run.name} is deleted",
            where=f"run {run.run_id}",
            mend="restore it with the flow restore-training",
        )
    if not run.is_training and not run.is_search:
        raise NotFound(
            f"The run {run.name} is no training",
            where=f"run {run.run_id}",
            allowed="a training, a study or a sweep",
            mend="take the id from the list of trainings",
        )
    store = open_store(site)
    name = run.dataset.partition("@")[0]
    if name in set(store.all_names()) - set(store.names()):
        raise NotFound(f"MLflow has no run {identity}", mend="take the id from the list of trainings")
    return run


def _parameters(client: SyncPrefectClient, run: RunFacts, site: str) -> dict[str, Any]:
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
    settings = records.settings(_mlflow(site), run)
    if settings is None:  # from before they were kept beside the run
        for flow_run in _flow_runs(client, ids=[run.flow_run_id]):
            if run.parent == "" and flow_run.parameters.get("method", "train") == "train":
                settings = flow_run.parameters.get("training", {})
    if settings is None:
        raise NotFound(
            f"The settings of the training {run.name} were not kept",
            where=f"run {run.run_id}",
            mend="train again",
        )
    return {"dataset": {"name": ref.name, "version": ref.version}, "training": settings, "site": site}


def _endpoints(model: str, site: str) -> list[str]:
    from tasks.serve.record import list_records

    try:
        host = cast(EndpointHost, EndpointHost.load(site))
    except ValueError:
        return []  # a site that serves nothing
    return [one.name for one in list_records(host.home) if one.model == model]


# What is told.


def _tell(made: FlowRun, key: str, about: str) -> None:
    page = url_for("flow-run", made.id) or ""
    create_markdown_artifact(
        f"[{made.name}]({page})\n\nFlow run `{made.id}`, {made.state_name}.", key=key, description=about
    )
    get_run_logger().info("%s: flow run %s.", about, made.id)


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
