"""Prefect tasks that start trainings, or only set them up: groups, drafts and copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import SetStateStatus
from prefect.logging import get_run_logger
from prefect.runtime import flow_run as this_flow_run
from prefect.utilities.urls import url_for

from tasks.containers.variables import image_of
from tasks.data.config import DatasetChoice
from tasks.data.storage.access import user_of
from tasks.data.task import asking_user, open_store, require_source
from tasks.errors import InvalidSettings, NotAllowed, NotFound, TrainyardError, Unavailable
from tasks.launch import changes as sets
from tasks.launch import checks
from tasks.launch.config import CopyConfig, DraftConfig, GroupConfig, StartConfig
from tasks.launch.place import TRAIN, Place, find_place
from tasks.train.config import TrainConfig
from tasks.train.site import site_faults
from tasks.trainings.config import ListConfig, is_flow_run
from tasks.trainings.tags import COPY_TAG, GROUP_TAG, SET_TAG
from tasks.trainings.task import (
    find_flow_run,
    flow_runs,
    is_draft,
    job_variables_of,
    publish_list,
    read_run,
    require_own,
    train_parameters,
)
from tasks.workspace.task import stop_job


@task(name="start group", task_run_name="start group {config.name}")
def start_group(
    config: GroupConfig,
    dataset: DatasetChoice | None = None,
    training: TrainConfig | None = None,
    site: str = "local",
) -> list[str]:
    """Start, or draft, a training for every set of settings; all are checked before the first is started.

    Run again, after a kill or with more sets, it starts what the group lacks: what waits, runs or has
    succeeded is left alone, and no set is started twice by one flow run. Groups belong to their user:
    another's of the same name is another group.

    Returns:
        The flow runs of the group, in the order of its sets.
    """
    log, user = get_run_logger(), asking_user()
    expanded = sets.expanded(config)
    with get_client(sync_client=True) as client:
        place = find_place(client, config.deployment, config)
        base = sets.merged(
            place.deployment.parameters, config.parameters, place.given(dataset=dataset, training=training)
        )
        there = _there(client, config.name, user)
        digest = partial(sets.digest, job_variables=place.image)
        every = _checked(place, base, expanded, site, lambda parameters: digest(parameters) in there)
        started = datetime.now(UTC)
        ids = []
        for number, (changed, parameters) in enumerate(zip(expanded, every, strict=True)):
            same = there.get(digest(parameters))
            if same is not None:
                ids.append(str(same.id))
                continue
            made = place.start(
                client,
                parameters,
                name=f"{config.name} {number + 1}: {sets.said(changed)}"[:200],
                key=f"{config.name}:{this_flow_run.id}:{digest(parameters)}",
                tags=(GROUP_TAG + config.name, SET_TAG + sets.said(changed)[:100]),
                draft=config.draft,
                # They are due one after the other, so the queue keeps their order.
                due=started + timedelta(milliseconds=number),
            )
            ids.append(str(made.id))
    kept = {str(run.id) for run in there.values()} & set(ids)
    log.info("Group %s: %d of %d are new.", config.name, len(ids) - len(kept), len(ids))
    _show_group(config.name, user, site)
    return ids


@task(name="stop group", task_run_name="stop group {group}")
def stop_group(group: str, user: str = "", site: str = "local") -> list[str]:
    """Stop every training of a group that has not ended, those that wait first; returns their flow runs.

    Args:
        group: Name of the group.
        user: Whose group; empty for one's own.
        site: Which set of blocks to use.

    Raises:
        NotFound: The user has no such group.
        NotAllowed: One of them may not be stopped by who asks; the others are stopped.
    """
    asking = asking_user()
    whose = user or asking
    with get_client(sync_client=True) as client:
        runs = _group(client, group, whose)
    stopped = []
    refused: list[TrainyardError] = []
    live = [run for run in runs if run.state is None or not run.state.is_final()]
    live.sort(key=lambda run: run.start_time is not None)  # or a place that gets free is taken by the next
    for run in live:
        try:
            stop_job.fn(str(run.id), asking)
        except Unavailable:
            continue  # it ended meanwhile
        except (NotAllowed, NotFound) as error:  # somebody else's, or of a workspace that is gone
            refused.append(error)
        else:
            stopped.append(str(run.id))
    _show_group(group, whose, site)
    if refused:
        raise refused[0]
    return stopped


@task(name="draft training")
def draft_training(
    config: DraftConfig, dataset: DatasetChoice, training: TrainConfig, site: str = "local"
) -> str:
    """Set a training up without starting it; returns its flow run, in the state Draft."""
    with get_client(sync_client=True) as client:
        place = find_place(client, TRAIN, config)
        base = sets.merged(place.deployment.parameters, place.given(dataset=dataset, training=training))
        (parameters,) = _checked(place, base, [{}], site)
        made = place.start(
            client,
            parameters,
            name=config.name or f"train {dataset.name}",
            key=f"draft:{this_flow_run.id}",
            draft=True,
        )
    _tell(made, "draft", f"Draft of a training on {dataset.name}: press Resume on its page to start it")
    return str(made.id)


@task(name="start trainings")
def start_trainings(config: StartConfig) -> list[str]:
    """Start drafts, single ones and those of one's own group; returns their flow runs.

    Raises:
        NotFound: One is not there; none is started.
        NotAllowed: One is no draft any more, or somebody else's; none is started.
    """
    user = asking_user()
    with get_client(sync_client=True) as client:
        runs = [find_flow_run(client, identity) for identity in config.drafts]
        if config.group:
            runs += [run for run in _group(client, config.group, user) if is_draft(run)]
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
            place = find_place(client, original.deployment_id, config, original.job_variables)
        else:
            run = read_run(config.training, site)
            base = train_parameters(run, site)
            place = find_place(client, TRAIN, config, job_variables_of(client, run))
        if config.replace:
            if original is None or not is_draft(original):
                raise NotAllowed(
                    "Only a draft can be replaced",
                    where=f"training {config.training}",
                    mend="leave replace off: the original stays",
                )
            require_own(original, user, "replace")
        (parameters,) = _checked(place, base, [config.changes], site)
        said = sets.said(config.changes)
        made = place.start(
            client,
            parameters,
            name=config.name or f"copy of {config.training[:8]}" + (f": {said}" if said else ""),
            key=f"copy:{this_flow_run.id}",
            tags=(COPY_TAG + config.training,),
            draft=config.draft,
        )
        if config.replace and original is not None:
            client.delete_flow_run(original.id)
    _tell(made, "copy", f"Copy of {config.training}" + (f" with {said}" if said else ""))
    return str(made.id)


def _checked(
    place: Place,
    base: Mapping[str, Any],
    every: Sequence[Mapping[str, Any]],
    site: str,
    is_there: Callable[[Mapping[str, Any]], bool] = lambda parameters: False,
) -> list[dict[str, Any]]:
    """The parameters of each set, all checked before the first of them is used: see `checks.checked`."""
    what_is_there = checks.Site(
        open_store(site),
        partial(site_faults, site=site, here=place.here),
        partial(require_source, site=site, here=place.here),
    )
    return checks.checked(place.facts, base, every, what_is_there, is_there)


def _there(client: SyncPrefectClient, group: str, user: str) -> dict[str, FlowRun]:
    """Flow runs of a group that need not be started again, by the digest of their parameters and image."""
    return {
        sets.digest(run.parameters, image_of(run.job_variables)): run
        for run in _runs_of_group(client, group, user)
        if run.state is None or not run.state.is_final() or run.state.is_completed()
    }


def _group(client: SyncPrefectClient, group: str, user: str) -> list[FlowRun]:
    runs = _runs_of_group(client, group, user)
    if not runs:
        raise NotFound(
            f"The user {user} has no group {group}", mend="take its name from the list of trainings"
        )
    return runs


def _runs_of_group(client: SyncPrefectClient, group: str, user: str) -> list[FlowRun]:
    """The flow runs of a user's group; another user may have one of the same name."""

    def is_theirs(run: FlowRun) -> bool:
        try:
            return user_of(run.tags) == user
        except InvalidSettings:  # tagged by hand with two users
            return False

    return [run for run in flow_runs(client, tags=[GROUP_TAG + group]) if is_theirs(run)]


def _show_group(group: str, user: str, site: str) -> None:
    publish_list(ListConfig(group=group, user=user, sort="oldest", limit=1_000), site, key="group")


def _tell(made: FlowRun, key: str, about: str) -> None:
    page = url_for("flow-run", made.id) or ""
    create_markdown_artifact(
        f"[{made.name}]({page})\n\nFlow run `{made.id}`, {made.state_name}.", key=key, description=about
    )
    get_run_logger().info("%s: flow run %s.", about, made.id)
