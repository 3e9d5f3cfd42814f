"""The queue for slots, on Prefect: runs take their slots first, or wait for them without a process.

What a run asks for stands on its flow run, as a label; whether that still counts is told by the state of the
flow run. So a run that ended, in whatever way, has no slots any more. Who may start: `tasks.workspace.slots`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateDetails, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import Abort, Pause
from prefect.logging import get_run_logger
from prefect.runtime import deployment
from prefect.runtime import flow_run as this_flow_run
from pydantic import ValidationError

from tasks.errors import InvalidSettings, TrainyardError
from tasks.refs import USER_TAG, WORKSPACE_TAG, tagged
from tasks.settings import Settings
from tasks.sweep.config import SweepConfig
from tasks.train.config import TrainConfig
from tasks.train.site import granted
from tasks.tune.config import TuneConfig
from tasks.workspace import slots
from tasks.workspace.jobs import AWAITING_SLOTS
from tasks.workspace.live import live_runs
from tasks.workspace.pools import WORKSPACE, device_block, device_pool, device_slots, endpoints, quotas
from tasks.workspace.slots import Ask, Job, Needs, Snapshot, Stage, Verdict
from tasks.workspace.stored import load_workspace

if TYPE_CHECKING:
    from tasks.serve.config import ServeConfig

LABEL = "trainyard.slots"
ASK_AGAIN_S = 0.25
ERROR_S = 2.0
PATIENCE_S = 600.0
"""How long a server that does not answer is asked again; its client waits between its tries."""
COMING_S = 120.0
"""A run that is about to start keeps its place for so long: where no worker takes it up, others go first."""


def take_slots(
    work: Settings | None,
    site: str,
    *,
    model: str = "",
    serving: ServeConfig | None = None,
) -> None:
    """Take the slots that this flow run needs, or end its process until it is its turn.

    Called first in a flow. A run that must wait is paused in the state AwaitingSlots and starts from its
    beginning when it is its turn. One that no deployment started, such as a notebook's, takes none.

    Args:
        work: Settings of its training, search or sweep; None where it trains nothing.
        site: Which set of blocks to use.
        model: The registered model that it serves.
        serving: How it serves it; None where it does not.

    Raises:
        Unavailable: There are fewer slots than it needs, even if all others ended.
        Pause: It has to wait.
    """
    if deployment.id is None or this_flow_run.id is None:
        return
    attempt, began = int(this_flow_run.run_count), time.monotonic()
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(this_flow_run.id))
        mine = _asking(client, run, needs_of(work, site, model, serving), site)
        slots.require_possible(mine, quotas(mine.ask.pools), endpoints(client))
        while True:
            try:
                _write(client, mine)
                runs = live_runs(client)
                seen = snapshot(client, runs, mine)
            except httpx.HTTPError as error:  # a claim that was written stands, and keeps others waiting
                if time.monotonic() - began > PATIENCE_S:
                    raise
                get_run_logger().warning("Prefect did not answer, and is asked again: %s", error)
                time.sleep(ERROR_S)
                continue
            decided = slots.verdict(mine, seen)
            if decided is Verdict.CLAIM:
                mine = slots.at(mine, Stage.CLAIMED, attempt)
                if mine.ask.needs.device == "gpu" and device_block(site).gpus is None:  # those of this host
                    mine = slots.with_gpus(mine, seen)
            elif decided is Verdict.TAKE:
                _write(client, slots.at(mine, Stage.HELD, attempt))
                if mine.ask.gpus:
                    os.environ["CUDA_VISIBLE_DEVICES"] = visible_devices(mine.ask.gpus, os.environ)
                return
            elif decided is Verdict.WAIT:
                mine = slots.at(mine, Stage.WAITING, attempt)
                _write(client, mine)
                start_next(client, seen, runs)  # should nobody else look after the queue
                _pause(client, run, slots.words(mine, seen))
            else:
                time.sleep(ASK_AGAIN_S)


def needs_of(
    work: Settings | None,
    site: str,
    model: str = "",
    serving: ServeConfig | None = None,
) -> Needs:
    """The slots that settings need: one a rank or a trial at a time, and one a worker of the endpoint."""
    from tasks.serve.endpoints import endpoint_name

    served = {serving.endpoint or endpoint_name(model): serving.workers} if serving is not None else {}
    if work is None:
        return Needs(serving=served)
    if isinstance(work, TrainConfig):
        gpus = None
        with suppress(TrainyardError):  # the training says what is wrong with its preset, with all else
            gpus = granted(work, site, here=False).gpus
        on_gpus = gpus != 0 and bool(device_slots(site, on_gpus=True))
        return Needs(training=work.num_ranks, serving=served, device="gpu" if on_gpus else "cpu")
    assert isinstance(work, TuneConfig | SweepConfig)
    there = device_slots(site, on_gpus=False)  # trials share what there is
    return Needs(training=min(work.max_parallel, there or work.max_parallel), serving=served)


def visible_devices(gpus: Sequence[int], environment: Mapping[str, str]) -> str:
    """What CUDA_VISIBLE_DEVICES is to be for some of the GPUs that this process sees, by their numbers."""
    names = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return ",".join(names[gpu] if names else str(gpu) for gpu in gpus)


def snapshot(client: SyncPrefectClient, runs: Iterable[FlowRun], mine: Job | None = None) -> Snapshot:
    """All jobs that have slots or ask for them, and what there is.

    Args:
        client: Prefect.
        runs: Flow runs that live.
        mine: The job that asks, as it was written before they were read.
    """
    now = time.time()
    jobs = {job.id: job for job in (job_of(run, now) for run in runs) if job is not None}
    if mine is not None:
        jobs[mine.id] = mine
    pools = {pool for job in jobs.values() for pool in job.ask.pools}
    return Snapshot(tuple(jobs.values()), quotas(pools), endpoints(client), now)


def job_of(run: FlowRun, now: float) -> Job | None:
    """What a flow run asks for or has; None where that does not count any more."""
    label, state = run.labels.get(LABEL), run.state
    if state is None or not isinstance(label, str):
        return None
    try:
        ask = Ask.model_validate_json(label)
    except ValidationError:  # of another version of this code
        return None
    runs = state.type in (StateType.RUNNING, StateType.CANCELLING)
    if ask.stage is not Stage.WAITING and not (runs and ask.attempt == run.run_count):
        ask = ask.model_copy(update={"stage": Stage.WAITING})  # of an attempt that is over
    if ask.stage is Stage.WAITING and not _is_coming(state, now):
        return None
    return Job(str(run.id), run.name, tagged(run.tags, USER_TAG), ask)


def start_next(client: SyncPrefectClient, seen: Snapshot, runs: Iterable[FlowRun]) -> list[str]:
    """Start waiting runs whose turn it is; returns their names.

    One whose label cannot be read is started too, to ask anew: nobody else would.
    Safe to call by several at once: Prefect resumes a paused run once.
    """
    waiting = {str(run.id): run for run in runs if run.state is not None and run.state.name == AWAITING_SLOTS}
    turns = [job.id for job in slots.admitted(seen)]
    unread = waiting.keys() - {job.id for job in seen.jobs}
    started = []
    for identity in (*turns, *sorted(unread)):
        if identity in waiting:
            with suppress(httpx.HTTPStatusError):  # deleted meanwhile: the others are started all the same
                if client.resume_flow_run(UUID(identity)).status is SetStateStatus.ACCEPT:
                    started.append(waiting[identity].name)
    return started


def _asking(client: SyncPrefectClient, run: FlowRun, needs: Needs, site: str) -> Job:
    """The job that a flow run is; one that asked before keeps its place in the queue."""
    before = None
    with suppress(ValidationError):
        before = Ask.model_validate_json(str(run.labels.get(LABEL)))
    workspace = workspace_of(run)
    devices = [device_pool(site, needs.device == "gpu")] if needs.training else []
    ask = Ask(
        needs=needs,
        pools=(*devices, *([WORKSPACE + workspace] if workspace else [])),
        priority=_priority(client, run),
        since=before.since if before is not None and before.stage is Stage.WAITING else time.time(),
        site=site,
    )
    return Job(str(run.id), run.name, tagged(run.tags, USER_TAG), ask)


def workspace_of(run: FlowRun) -> str:
    """Name of the workspace that a flow run is of; empty where it is of none.

    Raises:
        InvalidSettings: It is tagged with two.
        NotFound: There is none of that name.
    """
    names = sorted({tag.removeprefix(WORKSPACE_TAG) for tag in run.tags if tag.startswith(WORKSPACE_TAG)})
    if len(names) > 1:
        raise InvalidSettings(
            f"The run is tagged with {len(names)} workspaces: {', '.join(names)}",
            allowed=f"one tag {WORKSPACE_TAG}NAME, or none",
        )
    for name in names:
        load_workspace(name)
    return names[0] if names else ""


def _priority(client: SyncPrefectClient, run: FlowRun) -> int:
    """Of the run's work queue; 1 goes first."""
    if run.work_queue_id is None:
        return 1
    return client.read_work_queue(run.work_queue_id).priority or 1


def _write(client: SyncPrefectClient, job: Job) -> None:
    client.update_flow_run_labels(UUID(job.id), {LABEL: job.ask.model_dump_json()})


def _pause(client: SyncPrefectClient, run: FlowRun, message: str) -> None:
    """End this process; the run starts again when it is resumed, as one that Prefect suspends.

    Raises:
        Pause: Always, where the run may wait.
        Abort: It may not: it is being cancelled, and that is how it ends.
    """
    details = StateDetails(pause_reschedule=True, pause_key=uuid4().hex)
    state = State(type=StateType.PAUSED, name=AWAITING_SLOTS, message=message, state_details=details)
    answer = client.set_flow_run_state(run.id, state)
    if answer.status is not SetStateStatus.ACCEPT and not _was_paused(client, run, details):
        raise Abort(f"The run was ended before it could wait for its slots: {answer.details}")
    get_run_logger().info("%s", message)
    raise Pause(state=state)


def _was_paused(client: SyncPrefectClient, run: FlowRun, details: StateDetails) -> bool:
    """Whether this call paused the run: Prefect's client sends it again where no answer came in time."""
    state = client.read_flow_run(run.id).state
    return state is not None and state.state_details.pause_key == details.pause_key


def _is_coming(state: State, now: float) -> bool:
    """Whether a run without slots is one that will take them as soon as it can."""
    if state.type is StateType.PAUSED:
        return state.name == AWAITING_SLOTS
    about_to_start = state.type in (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING)
    return about_to_start and now - state.timestamp.timestamp() < COMING_S
