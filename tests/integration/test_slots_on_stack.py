"""Slots with a live worker: who waits, what for, and who is next when a job ends, is stopped or is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.serve.record import EndpointRecord
from tests.helpers.local_stack import SCRATCH_DEPLOYMENTS, LocalStack, wait_until

SEED = 5
VISION = ["workspace:vision", "user:ada"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack with room for many processes, four processor slots, and a workspace with two of them."""
    stack = LocalStack(
        tmp_path_factory.mktemp("slots") / "home", SCRATCH_DEPLOYMENTS, TRAINYARD_WORKER_LIMIT="8"
    )
    try:
        stack.up()
        document = stack.call("GET", "/block_types/slug/device-slots/block_documents/name/local")
        stack.call("PATCH", f"/block_documents/{document['id']}", {"data": {"cpus": 4}})
        vision = {"name": "vision", "manager": "ada", "training_slots": 2, "serving_slots": 1}
        state = stack.wait_final(stack.create_run("apply-workspace/step", workspace=vision))
        assert state["type"] == "COMPLETED", f"{state['message']}{stack.tails()}"
        yield stack
    finally:
        stack.down()


class Jobs:
    """Jobs of one test, by name."""

    def __init__(self, stack: LocalStack, signs: Path) -> None:
        self._stack, self._signs = stack, signs
        self.ids: dict[str, str] = {}

    def start(self, name: str, queue: str = "low", tags: list[str] = VISION, **more: Any) -> None:
        where = {"name": name, "folder": str(self._signs)}
        self.ids[name] = self._stack.create_run(f"holding/{queue}", tags, **where, **more)

    def began(self, name: str, timeout_s: float = 60) -> int:
        """Wait until a job has its slots; returns its process."""
        sign = self._signs / f"began-{name}"
        wait_until(lambda: sign.exists() and sign.read_text(), timeout_s)
        return int(sign.read_text())

    def waits(self, name: str) -> str:
        """Wait until a job waits for slots; returns what it says."""

        def message() -> str:
            state = self._stack.state(self.ids[name])
            return str(state["message"]) if state["name"] == "AwaitingSlots" else ""

        return str(wait_until(message))

    def end(self, name: str) -> None:
        (self._signs / f"end-{name}").touch()

    def is_waiting(self, name: str) -> bool:
        return self._stack.state(self.ids[name])["name"] == "AwaitingSlots"

    def final(self, name: str) -> dict[str, Any]:
        return self._stack.wait_final(self.ids[name])

    def row(self, name: str) -> dict[str, str]:
        """The line of a job in the list that is kept up to date."""
        rows = {row["id"]: row for row in table(self._stack, "jobs-now")}
        return rows.get(self.ids[name], {})


def table(stack: LocalStack, key: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(stack.call("GET", f"/artifacts/{key}/latest")["data"])
    return rows


def used(stack: LocalStack) -> dict[str, tuple[int, int, int]]:
    """Training slots in use, in all, and jobs that wait for them, by what they are of."""
    return {
        row["of"]: (int(row["used"]), int(row["total"]), int(row["jobs that wait"]))
        for row in table(stack, "slots-now")
        if row["for"] == "training"
    }


@pytest.fixture
def jobs(shared: LocalStack, signs: Path) -> Iterator[Jobs]:
    jobs = Jobs(shared, signs)
    yield jobs
    for name in jobs.ids:
        jobs.end(name)
    for name in jobs.ids:
        jobs.final(name)


def test_jobs_beyond_the_slots_wait_in_order_and_say_what_for(shared: LocalStack, jobs: Jobs) -> None:
    jobs.start("holder", ranks=2)
    jobs.began("holder")
    jobs.start("large", ranks=2)
    said = jobs.waits("large")
    assert said == (
        "Waits for 2 training slots of workspace vision: 0 of 2 free (holder of ada has 2). "
        "Number 1 of 1 in the queue."
    )
    jobs.start("small")
    assert "Number 2 of 2" in jobs.waits("small")
    jobs.start("urgent", "high")
    assert "Number 1 of 3" in jobs.waits("urgent")
    jobs.start("elsewhere", tags=["user:bob"], ranks=2)  # other workspaces' slots are not these
    jobs.began("elsewhere")

    holder = wait_until(lambda: (row := jobs.row("holder")).get("state") == "Running" and row)
    assert (holder["devices"], holder["workspace"], holder["user"]) == ("2 CPU", "vision", "ada")
    small = wait_until(lambda: "Number 3 of 3" in (row := jobs.row("small")).get("waits_for", "") and row)
    assert "holder of ada has 2" in small["waits_for"]
    lines = wait_until(lambda: (now := used(shared)) == {**now, "site local (processors)": (4, 4, 3)} and now)
    assert lines["workspace vision"] == (2, 2, 3)
    assert not _process_of(jobs.ids["large"])

    # The urgent one takes one slot; the small one goes past the large one, which does not fit yet.
    ended = time.monotonic()
    jobs.end("holder")
    jobs.began("urgent")
    print(
        f"the next one had its slots {time.monotonic() - ended:.1f} s after the job before it was told to end"
    )
    jobs.began("small")
    assert jobs.is_waiting("large")
    for name in ("urgent", "small"):
        jobs.end(name)
    jobs.began("large")
    assert jobs.final("small")["type"] == "COMPLETED"


def test_slots_of_killed_and_stopped_jobs_are_free_again(shared: LocalStack, jobs: Jobs) -> None:
    jobs.start("killed", ranks=2)
    victim = jobs.began("killed")
    jobs.start("stopped", ranks=2)
    jobs.waits("stopped")
    jobs.start("next", ranks=2)
    jobs.waits("next")
    # One that waits has no process; it is stopped at once.
    shared.call("POST", f"/flow_runs/{jobs.ids['stopped']}/set_state", {"state": {"type": "CANCELLING"}})
    assert jobs.final("stopped")["type"] == "CANCELLED"
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    jobs.began("next")
    print(f"the next one had its slots {time.monotonic() - began:.1f} s after the kill")
    assert jobs.final("killed")["type"] == "CRASHED"


def test_more_than_there_ever_are_is_refused_at_once(shared: LocalStack, jobs: Jobs) -> None:
    jobs.start("greedy", ranks=3)
    state = jobs.final("greedy")
    assert state["type"] == "FAILED"
    assert "3 training slots are needed, and workspace vision has 2" in state["message"]


def test_serving_slots_are_counted_from_endpoints(shared: LocalStack, jobs: Jobs) -> None:
    record = shared.home / "endpoints" / "other" / "endpoint.json"
    record.parent.mkdir(parents=True)
    serves = EndpointRecord(
        name="other", model="other", alias="champion", host="127.0.0.1", port=9, url="http://127.0.0.1:9",
        token_file="", token_sha256="", tracking_uri="", workspace="vision", created_at="2026-01-01",
    )  # fmt: skip
    record.write_text(serves.model_dump_json())
    jobs.start("serving", ranks=0, endpoint="mine")
    assert "endpoint other has 1" in jobs.waits("serving")
    jobs.start("again", ranks=0, endpoint="other")  # it is served already
    jobs.began("again")
    record.write_text(serves.model_copy(update={"enabled": False}).model_dump_json())
    jobs.end("again")
    jobs.began("serving")


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_twenty_kills_of_worker_and_run_lose_no_slot(shared: LocalStack, jobs: Jobs) -> None:
    """Killed while it holds its slots, or wherever it is on its way to them, and the worker with it."""
    rng = random.Random(SEED)
    closed_s = []
    for number in range(20):
        name = f"victim-{number}"
        jobs.start(name, "high", ranks=2)
        victim = wait_until(partial(_process_of, jobs.ids[name]), 120)
        if rng.random() < 0.5:
            jobs.began(name)
        killed = time.monotonic()
        os.kill(shared.services()["worker"]["pid"], signal.SIGKILL)
        os.kill(victim, signal.SIGKILL)
        assert jobs.final(name)["type"] == "CRASHED"
        closed_s.append(time.monotonic() - killed)
        wait_until(lambda: shared.services()["worker"]["healthy"], 120)
    jobs.start("last", ranks=2)
    jobs.began("last")
    assert not [one for one in jobs.ids.values() if one != jobs.ids["last"] and _process_of(one)]
    assert wait_until(lambda: used(shared)["workspace vision"] == (2, 2, 0))
    print(f"seed {SEED}: recorded as crashed after {min(closed_s):.0f} to {max(closed_s):.0f} s")


def _process_of(run_id: str) -> int:
    """The process of a flow run; 0 where there is none."""
    every = psutil.process_iter(["environ"])
    return next((one.pid for one in every if _is_of(one, run_id)), 0)


def _is_of(process: psutil.Process, run_id: str) -> bool:
    environment = process.info["environ"] or {}
    return bool(environment.get("PREFECT__FLOW_RUN_ID") == run_id)
