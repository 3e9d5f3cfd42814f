"""Ranks, workers, schedulers and drivers that are killed or stopped while a network trains on two ranks.

Each test prints its seed and what it measured; `RANK_FAULTS_SEED` repeats one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

from tasks.errors import Unavailable
from tasks.train.ranks import host
from tasks.train.ranks.gang import Gang, launch
from tasks.train.ranks.launcher import get
from tasks.train.ranks.running import RankLost
from tests.helpers import on_ranks
from tests.helpers.dask_clusters import ROOT, DaskProcesses, running_ranks, two_workers
from tests.helpers.disturbed import Training, weights
from tests.helpers.serving_stack import wait_until

pytestmark = pytest.mark.faults

LAUNCHERS = ["torch", "horovod"]
LONG = {"epochs": 5000}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with two_workers() as client:
        yield client


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[DaskProcesses]:
    """A scheduler and two workers that nobody starts again."""
    with DaskProcesses(tmp_path / "dask") as processes:
        yield processes


_UNBROKEN: dict[str, dict[str, np.ndarray]] = {}


def unbroken(client: Client, launcher: str, folder: Path) -> dict[str, np.ndarray]:
    """The weights of a training that nothing happens to."""
    if launcher not in _UNBROKEN:
        _UNBROKEN[launcher] = weights(Training(folder, launcher, settings={"epochs": 10}).fit(client))
    return _UNBROKEN[launcher]


class Killer(threading.Thread):
    """Kills a rank at a moment that it waits for.

    Attributes:
        at: When it did, in seconds since 1970.
    """

    def __init__(self, mark: str, rank: int, moment: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self.mark, self.rank, self.moment = mark, rank, moment
        self.at = 0.0

    def run(self) -> None:
        victim = wait_until(lambda: running_ranks(self.mark).get(self.rank), 60)
        deadline = time.monotonic() + 60
        while not self.moment() and time.monotonic() < deadline:
            time.sleep(0)
        victim.kill()
        self.at = time.time()


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(
    "moment", ["before they meet", "first step", "middle", "while a checkpoint is written"]
)
def test_a_killed_rank_is_named_and_the_retry_ends_as_if_nothing_had_happened(
    client: Client, tmp_path: Path, mark: str, chance: random.Random, launcher: str, moment: str
) -> None:
    wanted = unbroken(client, launcher, tmp_path / "unbroken")
    training = Training(tmp_path / "killed", launcher, settings={"epochs": 10})
    checkpoints = training.work_folder / "checkpoints"
    step = chance.randint(5, 30)
    rank = 0 if moment.startswith("while") else chance.randrange(2)
    moments: dict[str, Callable[[], bool]] = {
        "before they meet": lambda: True,
        "first step": lambda: len(training.begun()) == 2,
        "middle": lambda: len(training.steps) >= step,
        "while a checkpoint is written": lambda: (
            len(training.steps) >= step and any(name.endswith(".partial") for name in os.listdir(checkpoints))
        ),
    }
    torn: list[Path] = []
    for _ in range(5):  # the kill may come a moment too late for the writing
        killer = Killer(mark, rank, moments[moment])
        killer.start()
        with pytest.raises(RankLost, match=rf"Rank {rank} on tcp://127\.0\.0\.1:\d+ was killed by signal 9"):
            training.fit(client)
        noticed_s = time.time() - killer.at
        heard = len(training.steps)
        torn = list(checkpoints.glob("*.partial"))
        if torn or not moment.startswith("while"):
            break
        step = 0
    print(f"rank {rank} killed after {heard} steps: noticed after {noticed_s:.1f} s")
    assert noticed_s < 15
    assert (heard == 0) == (moment in ("before they meet", "first step"))
    assert bool(torn) == moment.startswith("while")

    fit = training.fit(client)
    assert fit.ended == "finished"
    again = training.steps[heard:]
    assert again[-1][1] == 60
    assert (again[0][1] > 1) == (heard > 0)  # it goes on from the checkpoint, where there is one
    for name, value in wanted.items():
        np.testing.assert_allclose(weights(fit)[name], value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("launcher", "how"), [("torch", "killed"), ("horovod", "killed"), ("torch", "stopped")]
)
def test_without_one_worker_it_goes_on_smaller_and_grows_back(
    dask: DaskProcesses, tmp_path: Path, mark: str, chance: random.Random, launcher: str, how: str
) -> None:
    done, size_now = threading.Event(), 0
    steps_of: dict[int, list[int]] = {}

    def at_step(step: int) -> None:
        steps_of.setdefault(size_now, []).append(step)

    training = Training(
        tmp_path / "it", launcher, min_ranks=1, settings=LONG, at_step=at_step, should_stop=done.is_set
    )

    def sizes() -> list[int]:
        """Of each gang that has started, in order."""
        begun = training.begun()
        return [one["size"] for one in begun if one["rank"] == 0]

    def wait_for_steps(gang: list[int], many: int) -> None:
        nonlocal size_now
        wait_until(lambda: sizes() == gang or not run.is_alive(), 120)
        assert sizes() == gang
        size_now = len(gang)
        wait_until(lambda: len(steps_of.get(size_now, [])) >= many, 120)

    with dask.client() as client:
        results: list[Any] = []
        run = threading.Thread(target=lambda: results.append(training.fit(client)))
        run.start()
        wait_for_steps([2], chance.randint(10, 40))
        victim = chance.choice(dask.workers)
        victim.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        lost_at = time.time()
        wait_for_steps([2, 1], 40)
        smaller_s = training.begun()[-1]["at"] - lost_at
        if how == "killed":
            dask.add_worker()
        else:
            victim.send_signal(signal.SIGCONT)
        back_at = time.time()
        wait_for_steps([2, 1, 2], 40)
        grown_s = training.begun()[-1]["at"] - back_at
        assert len(running_ranks(mark)) == 2
        done.set()
        run.join(60)
        assert set(client.run(host.holder).values()) == {""}
    print(
        f"a worker {how}: one rank trains after {smaller_s:.1f} s, two {grown_s:.1f} s after there is a "
        f"worker again; steps with 2, 1, 2 ranks: {[len(steps_of[gang]) for gang in (1, 2, 3)]}"
    )
    assert smaller_s < (40 if how == "killed" else 90)
    # Each gang goes on from what the one before has committed.
    assert min(steps_of[2]) > 1
    assert min(steps_of[3]) >= max(steps_of[2]) - 1
    (fit,) = results
    assert fit.ended == "stopped"
    assert fit.best["validation_accuracy"] > 0.9
    assert "is lost with its worker" in training.lines[0]
    assert "A worker is there again" in training.lines[1]


@pytest.mark.parametrize(("launcher", "min_ranks"), [("torch", None), ("horovod", 1)])
def test_a_stopped_rank_ends_the_job_or_its_place_is_taken_by_another(
    client: Client,
    tmp_path: Path,
    mark: str,
    chance: random.Random,
    launcher: str,
    min_ranks: int | None,
) -> None:
    stopped: list[float] = []
    rank, at = chance.randrange(2), chance.randint(5, 20)

    def stop(step: int) -> None:
        if len(training.steps) >= at and not stopped:
            running_ranks(mark)[rank].suspend()
            stopped.append(time.time())

    training = Training(
        tmp_path / "it",
        launcher,
        min_ranks,
        LONG,
        at_step=stop,
        should_stop=lambda: len(training.begun()) == 4,
    )
    if min_ranks is None:
        with pytest.raises(RankLost, match=rf"Rank {rank} on .* stands still: silent for \d+ s"):
            training.fit(client)
        ended_s = time.time() - stopped[0]
    else:
        training.fit(client)
        ended_s = training.begun()[-1]["at"] - stopped[0]
        assert "stands still" in training.lines[0]
    what = "the job ended" if min_ranks is None else "two train again"
    print(f"rank {rank} stopped: {what} {ended_s:.1f} s later")
    assert ended_s < 90
    assert set(client.run(host.holder).values()) == {""}


def driver(dask: DaskProcesses, folder: Path, launcher: str) -> subprocess.Popen[str]:
    """A process that trains on ranks; its first steps have been taken."""
    command = [sys.executable, "-m", "tests.helpers.disturbed", dask.address, str(folder), launcher, "5000"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "step 3":
            return process
    raise AssertionError(process.communicate()[1])


def test_a_stopped_worker_ends_the_job_and_is_free_when_it_goes_on(
    dask: DaskProcesses, tmp_path: Path, mark: str, chance: random.Random
) -> None:
    process = driver(dask, tmp_path / "it", "torch")
    victim = chance.choice(dask.workers)
    victim.send_signal(signal.SIGSTOP)
    stopped_at = time.time()
    _, said = process.communicate(timeout=90)
    ended_s = time.time() - stopped_at
    assert process.returncode == 1
    assert "is lost with its worker" in said
    victim.send_signal(signal.SIGCONT)
    went_on_at = time.time()
    with dask.client() as client:
        wait_until(lambda: set(client.run(host.holder).values()) == {""}, host.LEASE_S)
        wait_until(lambda: not running_ranks(mark), 15)
    print(
        f"a worker stopped: the driver ended {ended_s:.1f} s later; it goes on: free after "
        f"{time.time() - went_on_at:.1f} s"
    )


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("when", ["while it starts", "while it trains"])
def test_without_the_scheduler_the_job_ends_in_words(
    dask: DaskProcesses, tmp_path: Path, mark: str, chance: random.Random, when: str, launcher: str
) -> None:
    killed: list[float] = []

    def kill() -> None:
        dask.scheduler.kill()
        killed.append(time.time())

    def at_step(step: int) -> None:
        if len(training.steps) >= last and not killed:
            kill()

    last = chance.randint(1, 60) if when == "while it trains" else 10**9
    training = Training(tmp_path / "it", launcher, chance.choice([None, 1]), LONG, at_step=at_step)
    with dask.client() as client:
        if when == "while it starts":
            threading.Timer(chance.uniform(0, 4), kill).start()
        began = time.time()
        with pytest.raises(Unavailable, match="scheduler of the Dask cluster does not answer"):
            training.fit(client)
        ended_s = time.time() - killed[0]
    wait_until(lambda: not running_ranks(mark), 15)
    gone_s = time.time() - killed[0]
    print(
        f"the scheduler killed after {killed[0] - began:.1f} s, {len(training.steps)} steps: the job ended "
        f"{ended_s:.1f} s later, its last rank was gone after {gone_s:.1f} s"
    )
    assert ended_s < 15


@pytest.mark.parametrize(
    ("launcher", "number", "within_s"),
    [
        ("torch", signal.SIGKILL, 15.0),
        ("horovod", signal.SIGKILL, 15.0),
        ("torch", signal.SIGSTOP, host.LEASE_S + 10),
    ],
)
def test_a_driver_that_is_gone_keeps_no_worker(
    dask: DaskProcesses,
    tmp_path: Path,
    mark: str,
    chance: random.Random,
    launcher: str,
    number: signal.Signals,
    within_s: float,
) -> None:
    process = driver(dask, tmp_path / "it", launcher)
    time.sleep(chance.uniform(0, 2))  # any moment of the training
    process.send_signal(number)
    gone_at = time.time()
    with dask.client() as client:
        wait_until(lambda: set(client.run(host.holder).values()) == {""}, within_s)
        free_s = time.time() - gone_at
        wait_until(lambda: not running_ranks(mark), 15)
        print(f"the driver got {number.name}: its workers were free {free_s:.1f} s later")
        assert launch(on_ranks.meet, Gang(2, get(launcher), threads=1), client)["mean"] == 0.5
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    if number is signal.SIGSTOP:  # it went on without its ranks
        assert process.returncode == 1
        assert "is lost with its worker" in said


@pytest.mark.parametrize("fault", [on_ranks.fail_on, on_ranks.abort_on])
def test_what_fails_once_does_not_poison_the_workers(
    client: Client, chance: random.Random, fault: Callable[..., None]
) -> None:
    from functools import partial

    workers = client.run(os.getpid)
    for turn in range(6):
        failing, next_one = (LAUNCHERS[number % 2] for number in (turn, turn + turn // 2))
        began = time.time()
        with pytest.raises(Exception, match=r"did not want to|was killed by signal 6"):
            launch(partial(fault, chance.randrange(2)), Gang(2, get(failing), threads=1), client)
        failed_s = time.time() - began
        assert launch(on_ranks.meet, Gang(2, get(next_one), threads=1), client)["mean"] == 0.5
        print(f"{failing} failed in {failed_s:.1f} s, then {next_one} ran in the same workers")
    assert client.run(os.getpid) == workers
