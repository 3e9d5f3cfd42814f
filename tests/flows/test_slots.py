"""Slots on a Prefect server: what counts, who is started, and the lists that are kept up to date."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey
from prefect.client.schemas.objects import FlowRun, State, StateDetails, StateType
from prefect.exceptions import Abort, Pause
from prefect.logging import disable_run_logger

from blocks.dask_cluster import DaskCluster
from blocks.device_slots import DeviceSlots
from blocks.endpoint_host import EndpointHost
from blocks.workspace import Workspace
from flows import retrain, templates, train
from tasks.data.config import IngestConfig, PreprocessConfig
from tasks.errors import InvalidSettings, NotFound, TrainyardError
from tasks.refs import Problem
from tasks.serve.config import ServeConfig
from tasks.serve.record import EndpointPlace, EndpointRecord
from tasks.sweep.config import SweepConfig
from tasks.templates.config import TemplateData
from tasks.train.config import TrainConfig
from tasks.tune.config import TuneConfig
from tasks.workspace import pools, queue, slots
from tasks.workspace.board import Board, slot_rows
from tasks.workspace.config import JobsConfig
from tasks.workspace.jobs import AWAITING_SLOTS
from tasks.workspace.live import live_runs
from tasks.workspace.slots import Ask, Endpoint, Needs, Quota, Stage
from tasks.workspace.stored import load_workspace
from tasks.workspace.task import list_jobs
from tests.helpers.training_site import IRIS, deploy, forget
from tests.helpers.training_site import SITE as TRAINING_SITE

SITE = "slots-suite"
TEAM = "workspace slots-team"
DEVICES = f"site {SITE} (processors)"


@flow
def in_a_notebook() -> str:
    queue.take_slots(TrainConfig(num_ranks=2, algorithm="mlp"), SITE)
    return "went on"


@pytest.fixture(scope="module")
def deployment(trainings_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UUID]:
    from prefect.client.orchestration import get_client

    DeviceSlots(cpus=4, gpus=0).save(SITE, overwrite=True)
    EndpointHost(home=str(tmp_path_factory.mktemp("endpoints"))).save(SITE, overwrite=True)
    Workspace(
        name="slots-team", manager="ada", problem=Problem.TABLE_CLASSIFICATION.value, training_slots=2
    ).save("workspace-slots-team", overwrite=True)
    with get_client(sync_client=True) as client:
        made = deploy(client, "flows.tune.tune_model", SITE, name="slots")
    yield made
    with get_client(sync_client=True) as client:
        forget(client, [made])


class Runs:
    """Flow runs of one test that stand as a process has left them."""

    def __init__(self, client: SyncPrefectClient, deployment: UUID) -> None:
        self._client, self._deployment = client, deployment
        self.made: list[UUID] = []

    def make(
        self,
        name: str,
        stage: Stage,
        training: int = 1,
        state: State | None = None,
        attempt: int = 1,
        planned: State | None = None,
    ) -> FlowRun:
        run = self._client.create_flow_run_from_deployment(
            self._deployment, name=name, tags=["workspace:slots-team", "user:ada"], state=planned
        )
        self.made.append(run.id)
        self._client.set_flow_run_state(run.id, State(type=StateType.RUNNING), force=True)
        since = time.time() + len(self.made)
        ask = Ask(
            needs=Needs(training=training), pools=(DEVICES, TEAM), priority=2, since=since, stage=stage,
            attempt=attempt, site=SITE,
        )  # fmt: skip
        self._client.update_flow_run_labels(run.id, {queue.LABEL: ask.model_dump_json()})
        if state is not None:
            self._client.set_flow_run_state(run.id, state, force=True)
        return self._client.read_flow_run(run.id)

    def waiting(self, name: str, training: int = 1) -> FlowRun:
        details = StateDetails(pause_reschedule=True)
        paused = State(type=StateType.PAUSED, name=AWAITING_SLOTS, state_details=details)
        return self.make(name, Stage.WAITING, training, paused)

    def seen(self) -> slots.Snapshot:
        return queue.snapshot(self._client, (run for run in live_runs(self._client) if run.id in self.made))


@pytest.fixture
def runs(prefect: SyncPrefectClient, deployment: UUID) -> Iterator[Runs]:
    runs = Runs(prefect, deployment)
    yield runs
    for one in runs.made:
        prefect.delete_flow_run(one)


def test_a_run_has_slots_only_as_long_as_the_process_that_took_them_lives(runs: Runs) -> None:
    runs.make("held", Stage.HELD)
    runs.make("being stopped", Stage.HELD, state=State(type=StateType.CANCELLING))
    runs.make("crashed", Stage.HELD, state=State(type=StateType.CRASHED))
    runs.make("done", Stage.HELD, state=State(type=StateType.COMPLETED))
    runs.make("in review", Stage.HELD, state=State(type=StateType.PAUSED, name="Suspended"))
    runs.make("started again", Stage.HELD, attempt=0)  # it will ask again
    seen = runs.seen()
    assert {job.name for job in seen.holders} == {"held", "being stopped"}
    assert [job.name for job in seen.queue] == ["started again"]
    assert seen.quotas == {DEVICES: Quota(4), TEAM: Quota(2, 2)}
    assert slots.used(TEAM, seen.holders, ()) == (2, 0)


def test_the_next_that_fit_are_started_once(prefect: SyncPrefectClient, runs: Runs) -> None:
    held = runs.make("held", Stage.HELD, 1)
    large, small = runs.waiting("large", 2), runs.waiting("small", 1)
    every = [held, large, small]
    assert queue.start_next(prefect, runs.seen(), every) == ["small"]
    assert prefect.read_flow_run(small.id).state_name == "Resuming"
    assert queue.start_next(prefect, runs.seen(), every) == []  # it has been, and keeps its place meanwhile
    assert [job.name for job in slots.admitted(runs.seen())] == ["small"]


def test_a_run_that_was_planned_for_later_and_started_now_has_its_slots(
    prefect: SyncPrefectClient, runs: Runs
) -> None:
    tonight = State(
        type=StateType.SCHEDULED,
        state_details=StateDetails(scheduled_time=datetime.now(UTC) + timedelta(hours=8)),
    )
    planned = runs.make("planned", Stage.HELD, planned=tonight)
    later = runs.make("later", Stage.WAITING, state=tonight, planned=tonight)
    assert [job.name for job in runs.seen().holders] == ["planned"]
    found = {run.id for run in live_runs(prefect)}
    assert planned.id in found
    assert later.id not in found


def test_a_run_whose_label_cannot_be_read_is_started_to_ask_anew(
    prefect: SyncPrefectClient, runs: Runs
) -> None:
    runs.make("held", Stage.HELD, 2)
    waits, unread = runs.waiting("waits", 1), runs.waiting("unread", 1)
    prefect.update_flow_run_labels(unread.id, {queue.LABEL: '{"needs": "of another version"}'})
    every = [run for run in live_runs(prefect) if run.id in runs.made]
    assert queue.start_next(prefect, queue.snapshot(prefect, every), every) == ["unread"]
    assert prefect.read_flow_run(waits.id).state_name == AWAITING_SLOTS


def test_a_run_that_is_deleted_meanwhile_keeps_no_other_from_starting(
    prefect: SyncPrefectClient, runs: Runs
) -> None:
    gone, here = runs.waiting("gone"), runs.waiting("here")
    every = [gone, here]
    seen = runs.seen()
    prefect.delete_flow_run(gone.id)
    runs.made.remove(gone.id)
    assert queue.start_next(prefect, seen, every) == ["here"]


def test_a_run_is_paused_once_where_its_request_was_sent_twice(
    prefect: SyncPrefectClient, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Prefect's client does it where the server took the request, and was too slow to answer."""
    run = runs.make("slow", Stage.WAITING)
    send = prefect.set_flow_run_state

    def sent_twice(run_id: UUID, state: State) -> Any:
        send(run_id, state)
        return send(run_id, state)

    monkeypatch.setattr(prefect, "set_flow_run_state", sent_twice)
    with disable_run_logger(), pytest.raises(Pause):
        queue._pause(prefect, run, "waits")
    monkeypatch.undo()
    assert prefect.read_flow_run(run.id).state_name == AWAITING_SLOTS
    with pytest.raises(Abort, match="before it could wait"):
        queue._pause(prefect, run, "waits")  # it does not run


def test_a_server_that_does_not_answer_for_a_while_is_asked_again(
    prefect: SyncPrefectClient, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.make("patient", Stage.WAITING)
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", str(run.deployment_id))
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", str(run.id))
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(run.run_count))
    monkeypatch.setattr(queue, "ERROR_S", 0.01)
    tries: list[int] = []

    def failing_twice(client: SyncPrefectClient) -> list[FlowRun]:
        tries.append(len(tries))
        if len(tries) < 3:
            raise httpx.ReadTimeout("the server is busy")
        return [one for one in live_runs(client) if one.id in runs.made]

    monkeypatch.setattr(queue, "live_runs", failing_twice)
    with disable_run_logger():
        queue.take_slots(TrainConfig(algorithm="mlp"), SITE)
    assert len(tries) > 3
    assert [job.name for job in runs.seen().holders] == ["patient"]
    monkeypatch.setattr(queue, "PATIENCE_S", 0.0)
    tries.clear()
    with disable_run_logger(), pytest.raises(httpx.ReadTimeout):
        queue.take_slots(TrainConfig(algorithm="mlp"), SITE)


@pytest.mark.parametrize("flow_name", ["train", "retrain", "template"])
def test_settings_that_cannot_be_are_refused_before_the_wait(
    deployment: UUID, monkeypatch: pytest.MonkeyPatch, flow_name: str
) -> None:
    waited: list[str] = []
    for module in (train, retrain, templates):
        monkeypatch.setattr(module, "take_slots", lambda *_, **__: waited.append("waited"))
    wrong = TrainConfig(algorithm="mlp", resources="nowhere")
    source = IngestConfig(source="sample:iris", name="iris", problem=Problem.TABLE_CLASSIFICATION)
    started: dict[str, Callable[[], Any]] = {
        "train": lambda: train.train_model(IRIS, wrong, TRAINING_SITE),
        "retrain": lambda: retrain.retrain(source, training=wrong, site=TRAINING_SITE),
        "template": lambda: templates.train_from_template(
            TemplateData(name="iris"), source.problem, PreprocessConfig(), wrong, TRAINING_SITE
        ),
    }
    with pytest.raises(TrainyardError, match="nowhere"):
        started[flow_name]()
    assert waited == []


def test_a_block_that_holds_nonsense_stops_those_alone_who_use_it(
    prefect: SyncPrefectClient, runs: Runs
) -> None:
    site = "slots-nonsense"
    for block in (
        DeviceSlots(),
        EndpointHost(home="/nowhere"),
        Workspace(name=site, manager="ada", problem=Problem.TABLE_CLASSIFICATION.value),
    ):
        name = f"workspace-{site}" if isinstance(block, Workspace) else site
        document = block.save(name, overwrite=True)
        field = {"DeviceSlots": "cpus", "EndpointHost": "first_port", "Workspace": "training_slots"}
        wrong = BlockDocumentUpdate(data={field[type(block).__name__]: -1})
        prefect.update_block_document(document, wrong)
    with pytest.raises(InvalidSettings, match=f"Device Slots.*'{site}'"):
        queue.needs_of(TuneConfig(), site)
    with pytest.raises(InvalidSettings, match=f"workspace {site}"):
        load_workspace(site)
    assert pools.quotas([f"site {site} (processors)", f"workspace {site}", TEAM]) == {TEAM: Quota(2, 2)}
    Board().write(prefect)


def test_the_lists_are_kept_up_to_date_in_place(prefect: SyncPrefectClient, runs: Runs) -> None:
    def shown(key: str) -> dict[str, dict[str, str]]:
        rows: list[dict[str, str]] = json.loads(latest(prefect, key)["data"])
        return {row.get("name", row.get("of", "")): row for row in rows}

    runs.make("held", Stage.HELD, 2)
    waits = runs.waiting("waits", 1)
    board = Board()
    board.write(prefect)
    assert shown("jobs-now")["waits"]["waits_for"] == (
        f"Waits for 1 training slot of {TEAM}: 0 of 2 free (held of ada has 2). Number 1 of 1 in the queue."
    )
    assert shown("jobs-now")["held"]["devices"] == "2 CPU"
    assert shown("slots-now")[DEVICES] | {"by": ""} == {
        "of": DEVICES, "for": "training", "used": "2", "total": "4", "by": "", "jobs that wait": "1",
    }  # fmt: skip
    first = dict(board.ids)
    prefect.set_flow_run_state(waits.id, State(type=StateType.CANCELLED), force=True)
    Board().write(prefect)  # another process goes on with the same artifacts
    assert "waits" not in shown("jobs-now")
    wanted = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=list(first)))
    assert {one.key: one.latest_id for one in prefect.read_latest_artifacts(artifact_filter=wanted)} == first
    for one in first.values():
        prefect.delete_artifact(one)
    board.write(prefect)
    assert "held" in shown("jobs-now")


def test_the_list_of_a_user_says_what_jobs_wait_for(prefect: SyncPrefectClient, runs: Runs) -> None:
    runs.make("held", Stage.HELD, 2)
    runs.waiting("waits", 2)
    lines = {line.name: line for line in list_jobs.fn(JobsConfig(workspace="slots-team", user="ada"))}
    assert lines["waits"].state == AWAITING_SLOTS
    assert "2 training slots" in lines["waits"].waits_for
    assert [*lines] == ["held", "waits"]


def test_needs_are_ranks_trials_and_workers_of_the_endpoint(deployment: UUID) -> None:
    def needs(work: Any, **more: Any) -> Needs:
        return queue.needs_of(work, SITE, **more)

    assert needs(TrainConfig(num_ranks=3, algorithm="mlp")) == Needs(training=3)
    assert needs(TuneConfig(max_parallel=3)) == Needs(training=3)
    assert needs(SweepConfig(max_parallel=64)) == Needs(training=4)  # they share what there is
    assert needs(None, model="Iris 2", serving=ServeConfig(workers=2)) == Needs(serving={"iris-2": 2})
    assert needs(TrainConfig(resources="nowhere")) == Needs(training=1)  # the training refuses it in words


def test_a_running_scheduler_has_as_many_slots_as_somebody_says(deployment: UUID) -> None:
    site = "slots-elsewhere"
    both = [f"site {site} (GPUs)", f"site {site} (processors)"]
    DaskCluster(address="tcp://127.0.0.1:1").save(site, overwrite=True)
    assert pools.quotas(both) == {both[0]: Quota(0), both[1]: Quota(None)}
    assert queue.needs_of(TrainConfig(num_ranks=64, algorithm="mlp"), site) == Needs(training=64)
    DeviceSlots(gpus=64).save(site, overwrite=True)
    assert pools.quotas(both) == {both[0]: Quota(64), both[1]: Quota(None)}
    assert queue.needs_of(TrainConfig(num_ranks=64, algorithm="mlp"), site).device == "gpu"


def test_endpoints_count_where_they_are_switched_on(prefect: SyncPrefectClient, deployment: UUID) -> None:
    home = Path(cast(EndpointHost, EndpointHost.load(SITE)).home)
    texts = ("alias", "host", "url", "token_file", "token_sha256", "tracking_uri", "created_at")
    facts = dict.fromkeys(texts, "-")
    for name, more in (
        ("on", {"workspace": "slots-team", "workers": 2}),
        ("off", {"workspace": "slots-team", "enabled": False}),
        ("free", {}),
    ):
        place = EndpointPlace(home, name)
        place.record_file.parent.mkdir(parents=True)
        record = EndpointRecord.model_validate({"name": name, "model": name, "port": 1, **facts, **more})
        place.record_file.write_text(record.model_dump_json())
    assert pools.endpoints(prefect) == [Endpoint("on", 2, (TEAM,))]
    rows = slot_rows(slots.Snapshot((), {TEAM: Quota(2, 3)}, queue.snapshot(prefect, []).endpoints))
    assert [(row["for"], row["used"], row["total"], row["by"]) for row in rows] == [
        ("training", "0", "2", ""), ("serving", "2", "3", "endpoint on has 2"),
    ]  # fmt: skip


def test_a_run_is_of_one_workspace_that_exists(prefect: SyncPrefectClient, runs: Runs) -> None:
    run = runs.make("mine", Stage.WAITING)
    assert queue.workspace_of(run) == "slots-team"
    with pytest.raises(InvalidSettings, match="2 workspaces: slots-team, speech"):
        queue.workspace_of(run.model_copy(update={"tags": [*run.tags, "workspace:speech"]}))
    with pytest.raises(NotFound, match="no workspace speech"):
        queue.workspace_of(run.model_copy(update={"tags": ["workspace:speech"]}))
    assert queue.workspace_of(run.model_copy(update={"tags": ["user:ada"]})) == ""


def test_a_run_that_no_deployment_started_takes_none(deployment: UUID) -> None:
    assert in_a_notebook() == "went on"


def latest(client: SyncPrefectClient, key: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.request("GET", "/artifacts/{key}/latest", path_params={"key": key}).json()
    return answer
