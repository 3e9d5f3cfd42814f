"""Worker and run are killed together, again and again: no slot is lost, no process left."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.local_stack import LocalStack, wait_until
from tests.helpers.postgresql import needs_postgresql, postgresql
from tests.helpers.slot_jobs import Jobs, process_of, shared_stack, used

SEED = 5

# On SQLite, Prefect's server stands still for up to a minute after its worker was killed.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800), needs_postgresql]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with (
        postgresql() as url,
        shared_stack(tmp_path_factory.mktemp("slots") / "home", TRAINYARD_DATABASE_URL=url) as stack,
    ):
        yield stack


@pytest.fixture
def jobs(shared: LocalStack, tmp_path: Path) -> Iterator[Jobs]:
    jobs = Jobs(shared, tmp_path)
    yield jobs
    jobs.end_all()


def test_twenty_kills_of_worker_and_run_lose_no_slot(shared: LocalStack, jobs: Jobs) -> None:
    """Killed while it holds its slots, or wherever it is on its way to them, and the worker with it."""
    rng = random.Random(SEED)
    closed_s = []
    for number in range(20):
        name = f"victim-{number}"
        jobs.start(name, "high", ranks=2)
        victim = wait_until(partial(process_of, jobs.ids[name]), 120)
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
    assert not [one for one in jobs.ids.values() if one != jobs.ids["last"] and process_of(one)]
    assert wait_until(lambda: used(shared)["workspace vision"] == (2, 2, 0))
    print(f"seed {SEED}: recorded as crashed after {min(closed_s):.0f} to {max(closed_s):.0f} s")
