"""Slots with a live worker: who waits, what for, and who is next when a job ends, is stopped or is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.serve.record import EndpointRecord
from tests.helpers.local_stack import LocalStack, wait_until
from tests.helpers.slot_jobs import Jobs, process_of, shared_stack, used


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with shared_stack(tmp_path_factory.mktemp("slots") / "home") as stack:
        yield stack


@pytest.fixture
def jobs(shared: LocalStack, signs: Path) -> Iterator[Jobs]:
    jobs = Jobs(shared, signs)
    yield jobs
    jobs.end_all()


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
    assert not process_of(jobs.ids["large"])

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
