"""Many jobs, many deaths, many ranks: who competes for workers, what twenty killed runs leave, sixteen ranks.

Each test prints its seed and what it measured; `RANK_FAULTS_SEED` repeats one.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
from distributed import Client

from blocks.dask_cluster import DaskCluster
from tasks.errors import Unavailable
from tasks.train.ranks import host
from tasks.train.ranks.gang import Gang, launch
from tasks.train.ranks.launcher import get
from tasks.train.ranks.workers import Workers
from tests.helpers import on_ranks
from tests.helpers.dask_clusters import ROOT, DaskProcesses, running_ranks
from tests.helpers.disturbed import Training
from tests.helpers.serving_stack import wait_until

pytestmark = pytest.mark.faults

LAUNCHERS = ["torch", "horovod"]
CYCLES = 20


def holders(client: Client) -> list[str]:
    """The jobs that the workers belong to, those that answer; empty for a free one."""
    workers = Workers(client)
    try:
        answers = workers.call(host.holder, dict.fromkeys(workers.addresses(), ()))
    finally:
        workers.close()
    return [one for one in answers.values() if isinstance(one, str)]


def test_jobs_that_compete_get_all_workers_or_none(tmp_path: Path, mark: str, chance: random.Random) -> None:
    jobs = 4

    def run(job: str, wait_s: float, hold_s: float) -> None:
        time.sleep(wait_s)  # so that they meet at moments of chance
        with dask.client() as client:
            work = partial(on_ranks.occupy, str(tmp_path), job, hold_s)
            launch(work, Gang(2, get(LAUNCHERS[int(job) % 2]), threads=1), client)

    halves_s, longest_s = 0.0, 0.0
    with DaskProcesses(tmp_path / "dask") as dask, dask.client() as client:
        threads = [
            threading.Thread(target=run, args=(str(job), chance.uniform(0, 0.5), chance.uniform(0, 1)))
            for job in range(jobs)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        half_since = None
        while any(thread.is_alive() for thread in threads):
            assert time.monotonic() - began < 240
            half = len({one for one in holders(client) if one}) > 1
            half_since = (half_since or time.monotonic()) if half else None
            halves_s = max(halves_s, time.monotonic() - half_since if half_since else 0.0)
            time.sleep(0.02)
        longest_s = time.monotonic() - began
    held = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert len(held) == 2 * jobs  # all came to their turn, each with both ranks
    for one in held:
        for other in held:
            apart = one["until"] <= other["from"] or other["until"] <= one["from"]
            assert apart or one["job"] == other["job"]
    print(f"{jobs} jobs on 2 workers in {longest_s:.0f} s; half a claim each for at most {halves_s:.2f} s")
    assert halves_s < 2


def test_twenty_killed_runs_leave_nothing(tmp_path: Path, mark: str, chance: random.Random) -> None:
    def start(number: int, epochs: int) -> subprocess.Popen[str]:
        arguments = [dask.address, str(tmp_path / f"run-{number}"), LAUNCHERS[number % 2], str(epochs)]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.disturbed", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def reach(run: subprocess.Popen[str], moment: str) -> None:
        if moment == "it starts":
            time.sleep(chance.uniform(0, 5))
            return
        wait_until(lambda: holders(client) != ["", ""], 60)
        if moment == "ranks start":
            time.sleep(chance.uniform(0, 4))
            return
        assert run.stdout is not None
        wanted = f"step {chance.randint(1, 40)}"
        assert any(line.strip() == wanted for line in run.stdout)

    freed_s: list[float] = []
    moments: list[str] = []
    with DaskProcesses(tmp_path / "dask", nanny=True) as dask, dask.client() as client:
        for number in range(CYCLES):
            run = start(number, 5000)
            moments.append(chance.choice(["it starts", "ranks start", "it trains"]))
            reach(run, moments[-1])
            worker = dask.process_at(chance.choice(sorted(client.nthreads())))
            for victim in (worker, run) if chance.random() < 0.5 else (run, worker):
                victim.kill()
            killed_at = time.monotonic()
            run.communicate(timeout=30)
            wait_until(lambda: holders(client) == ["", ""] and not running_ranks(mark), 30)
            freed_s.append(time.monotonic() - killed_at)
        began = time.monotonic()
        output = start(CYCLES, 20).communicate(timeout=120)[0]
        took_s = time.monotonic() - began
        assert output.splitlines()[-1].startswith("ended finished"), output
        assert holders(client) == ["", ""]
        below = [child for one in dask.workers for child in psutil.Process(one.pid).children(recursive=True)]
        names = [" ".join(one.cmdline()) for one in below]
        assert sum("spawn_main" in name for name in names) == 2, names  # the workers, and no more
    print(
        f"{CYCLES} runs killed with a worker while {dict(Counter(moments))}; workers there and free again "
        f"after {max(freed_s):.1f} s at most; run {CYCLES + 1} took {took_s:.1f} s"
    )


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_sixteen_ranks_train_and_survive_a_loss(
    tmp_path: Path, mark: str, chance: random.Random, launcher: str
) -> None:
    at: dict[str, float] = {"asked": 0.0}
    step_lost = chance.randint(5, 15)

    def at_step(step: int) -> None:
        at.setdefault("first step", time.time())
        if len(training.steps) >= step_lost and "lost" not in at:
            at["lost"] = time.time()
            at["steps before"] = len(training.steps)
            chance.choice(dask.workers).kill()
        elif "lost" in at and sum(one["size"] == 15 for one in training.begun()) == 15:
            at.setdefault("first step of 15", time.time())
            at["steps after"] = at.get("steps after", 0) + 1

    def enough() -> bool:
        return at.get("steps after", 0) >= 10

    settings = {"batch_size_per_rank": 2, "epochs": 5000}
    training = Training(
        tmp_path / "it", launcher, 8, settings, num_ranks=16, at_step=at_step, should_stop=enough
    )
    with DaskProcesses(tmp_path / "dask", workers=16) as dask, dask.client() as client:
        at["asked"] = time.time()
        fit = training.fit(client)
        ended = time.time()
        assert holders(client) == [""] * 15
    sizes = [one["size"] for one in training.begun()]
    before_s = at["lost"] - at["first step"]
    after_s = ended - at["first step of 15"]
    print(
        f"16 ranks: first step after {at['first step'] - at['asked']:.1f} s, then "
        f"{at['steps before']:.0f} steps in {before_s:.1f} s; a worker killed: 15 ranks take "
        f"their first after {at['first step of 15'] - at['lost']:.1f} s, then {at['steps after']:.0f} "
        f"in {after_s:.1f} s; in all {ended - at['asked']:.1f} s"
    )
    assert sizes == [16] * 16 + [15] * 15
    assert fit.ended == "stopped"


def _other_code(root: Path) -> str:
    with (root / "tasks" / "errors.py").open("a") as file:
        file.write("# another state of the code\n")
    return r"Workers have other versions than the flow: trainyard other code \(tcp://127.0.0.1:\d+\)"


def _other_library(root: Path) -> str:
    folder = root / "torch-9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9\n")
    return r"torch 9\.9, here \S+ \(tcp://127.0.0.1:\d+\)"


@pytest.mark.parametrize("differ", [_other_code, _other_library])
def test_workers_that_differ_are_refused_by_name(
    tmp_path: Path, mark: str, differ: Callable[[Path], str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "tasks", other / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "blocks", other / "blocks", ignore=shutil.ignore_patterns("__pycache__"))
    said = differ(other)
    with DaskProcesses(tmp_path / "dask", workers=1) as dask, dask.client() as client:
        dask.add_worker(other)
        client.wait_for_workers(2, timeout=60)
        began = time.monotonic()
        with pytest.raises(Unavailable, match=said):
            launch(on_ranks.meet, Gang(2, get("torch"), threads=1), client)
        print(f"refused in {time.monotonic() - began:.1f} s")
        assert time.monotonic() - began < 5
        assert holders(client) == ["", ""]


def test_an_address_that_does_not_answer_is_given_up_within_seconds(tmp_path: Path, mark: str) -> None:
    """A port where nobody is, one where nobody speaks, and a scheduler that is stopped."""

    def given_up_s(address: str) -> float:
        began = time.monotonic()
        with pytest.raises(OSError), DaskCluster(address=address).rank_client(1, 0):  # noqa: PT011
            pass
        return time.monotonic() - began

    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        DaskProcesses(tmp_path / "dask", workers=1) as dask,
    ):
        with DaskCluster(address=dask.address).rank_client(1, 0) as client:
            assert client.status == "running"
        dask.scheduler.send_signal(signal.SIGSTOP)
        port = silent.getsockname()[1]
        addresses = ["tcp://127.0.0.1:9", f"tcp://127.0.0.1:{port}", dask.address]
        times_s = [given_up_s(address) for address in addresses]
    print(f"nobody, silence, a stopped scheduler: given up after {', '.join(f'{s:.1f} s' for s in times_s)}")
    assert max(times_s) < 5
