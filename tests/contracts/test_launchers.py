"""What every launcher must do, on the real workers of a Dask cluster."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
import pytest
from distributed import Client

from tasks.errors import InvalidSettings, Unavailable
from tasks.train.algorithms.fit import FitContext
from tasks.train.ranks import host, launcher, running
from tasks.train.ranks.gang import Followed, Gang, launch
from tasks.train.ranks.running import RankLost
from tasks.train.ranks.workers import Workers
from tests.helpers import on_ranks
from tests.helpers.dask_clusters import running_ranks, two_workers
from tests.helpers.serving_stack import wait_until

LAUNCHERS = ["torch", "horovod"]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with two_workers() as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_is_left(client: Client) -> Iterator[None]:
    """After each test the workers are free and no rank runs."""
    yield
    assert set(client.run(host.holder).values()) == {""}
    wait_until(lambda: not running_ranks())


def gang(name: str = "torch", num_ranks: int = 2, **more: Any) -> Gang:
    return Gang(num_ranks, launcher.get(name), threads=1, **more)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ranks_know_their_places_and_hear_each_other(client: Client, name: str) -> None:
    told: list[Any] = []
    first = launch(on_ranks.meet, gang(name), client, Followed(told.append))
    assert first["world"] == first["place"] == (0, 0, 2, 2)
    assert first["mean"] == 0.5
    assert told == [{"rank": 0}]
    again = launch(on_ranks.meet, gang(name), client)
    assert again["pid"] != first["pid"]  # nothing of a job stays with the next one


@pytest.mark.parametrize("name", LAUNCHERS)
def test_what_a_rank_raises_is_raised_and_the_workers_are_free(client: Client, name: str) -> None:
    for number in (0, 1):
        began = time.monotonic()
        with pytest.raises(InvalidSettings, match=f"did not want to.*rank {number}"):
            launch(partial(on_ranks.fail_on, number), gang(name), client)
        assert time.monotonic() - began < 20
    assert launch(on_ranks.meet, gang(name), client)["mean"] == 0.5


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_killed_rank_is_noticed_and_named(client: Client, name: str, tmp_path: Path) -> None:
    died: list[float] = []

    def told(_: Any) -> None:
        died.append(time.monotonic())

    work = partial(on_ranks.die_on, 1, int(signal.SIGKILL), str(tmp_path), 1000)
    with pytest.raises(RankLost, match=r"Rank 1 on tcp://127\.0\.0\.1:\d+ was killed by signal 9"):
        launch(work, gang(name), client, Followed(told))
    assert time.monotonic() - died[-1] < 15
    result = launch(partial(on_ranks.die_on, 1, 0, str(tmp_path), 6), gang(name), client)
    assert result["began"] == 3  # the run's retry goes on from what was committed


@pytest.mark.parametrize("name", LAUNCHERS)
def test_with_fewer_ranks_allowed_it_goes_on_by_itself(client: Client, name: str, tmp_path: Path) -> None:
    said: list[str] = []
    work = partial(on_ranks.die_on, 1, int(signal.SIGKILL), str(tmp_path), 20)
    result = launch(work, gang(name, min_ranks=1), client, Followed(log=said.append))
    assert result["began"] == 3
    assert result["sizes"] == [2] * 17  # only the rank died: its worker takes another
    assert "rank 1 on" in said[0]
    assert "go on from the last checkpoint" in said[0]


def test_a_rank_that_stands_still_ends_the_job(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SILENT_S", 3.0)
    with pytest.raises(RankLost, match="stands still: silent for"):
        launch(on_ranks.ignore_everything, gang(num_ranks=1), client)


def test_all_or_none_so_that_two_jobs_follow_each_other(client: Client, tmp_path: Path) -> None:
    go, said = tmp_path / "go", []
    results: dict[str, Any] = {}

    def run(name: str, followed: Followed) -> None:
        results[name] = launch(partial(on_ranks.hold, str(go)), gang(), client, followed)

    began = threading.Event()
    first = threading.Thread(target=run, args=("first", Followed(told=lambda _: began.set())))
    first.start()
    assert began.wait(60)
    waits = threading.Event()

    def log(line: str) -> None:
        said.append(line)
        waits.set()

    second = threading.Thread(target=run, args=("second", Followed(log=log)))
    second.start()
    assert waits.wait(60)
    go.touch()
    first.join(60)
    second.join(60)
    assert said[0].startswith("Waits for 2 workers: 0 of 2 are free, others belong to ")
    assert results["second"] > results["first"]


def test_more_ranks_than_workers_are_refused_at_once_in_numbers(client: Client) -> None:
    began = time.monotonic()
    with pytest.raises(
        Unavailable, match=r"3 ranks are asked for, and the cluster has 2 workers on 1 host.*at most 2"
    ):
        launch(on_ranks.meet, gang(num_ranks=3), client)
    with pytest.raises(Unavailable, match="4 ranks, 4 on each host"):
        launch(on_ranks.meet, gang(num_ranks=4, ranks_per_host=4), client)
    assert time.monotonic() - began < 5


def test_all_workers_are_seen_whatever_else_the_client_asks(client: Client) -> None:
    """It looks at the scheduler by itself, now and then, and not for all workers."""
    with (
        dask.config.set({"distributed.client.scheduler-info-interval": "1ms"}),
        Client(client.scheduler.address) as restless,
    ):
        workers = Workers(restless)
        assert {len(workers.addresses()) for _ in range(200)} == {2}
        workers.close()


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"num_ranks": 0}, "0 ranks are asked for: at least 1"),
        ({"num_ranks": -1}, "-1 ranks are asked for: at least 1"),
        ({"min_ranks": 3}, "3 ranks are to be enough: between 1 and the 2 asked for"),
        ({"min_ranks": 0}, "0 ranks are to be enough"),
        ({"num_ranks": 3, "ranks_per_host": 2}, "3 ranks cannot be 2 on each host"),
    ],
)
def test_impossible_numbers_are_refused(client: Client, numbers: dict[str, int], said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        launch(on_ranks.meet, gang(**numbers), client)


def test_an_unknown_launcher_is_refused() -> None:
    with pytest.raises(InvalidSettings, match=r"There is no launcher 'mpi'.*torch, horovod"):
        launcher.get("mpi")


def test_ranks_are_asked_to_end(client: Client) -> None:
    told: list[Any] = []
    followed = Followed(told.append, should_stop=lambda: bool(told))
    assert launch(on_ranks.wait_to_be_stopped, gang(), client, followed) == "stopped"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_user_code_finds_the_variables_and_joins_by_itself(client: Client, name: str) -> None:
    found = launch(on_ranks.variables, gang(name), client, joined=False)
    wanted = {
        "torch": {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"},
        "horovod": {"HOROVOD_RANK": "0", "HOROVOD_SIZE": "2", "HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1"},
    }[name]
    assert {key: found[key] for key in wanted} == wanted
    assert found["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_two_ranks_with_half_the_batch_are_one_with_all_of_it(client: Client, name: str) -> None:
    alone = on_ranks.weights_of(320, 32, 50, {}, FitContext(seed=7))
    together = launch(partial(on_ranks.fit_rows, 320, 16, 50, {}), gang(name), client)
    assert alone.keys() == together.keys()
    for key, value in alone.items():
        np.testing.assert_allclose(together[key], value, rtol=0, atol=1e-5, err_msg=key)


def test_nothing_listens_on_other_addresses(client: Client, tmp_path: Path) -> None:
    go, began = tmp_path / "go", threading.Event()
    found: dict[str, set[str]] = {}

    def listening() -> set[tuple[str, int]]:
        pids = {os.getpid(), *(one.pid for one in running_ranks().values())}
        every = psutil.net_connections("tcp")
        return {(one.laddr.ip, one.laddr.port) for one in every if one.pid in pids and one.status == "LISTEN"}

    before = listening()  # what other tests left open in this process
    for name in LAUNCHERS:
        began.clear()
        go.unlink(missing_ok=True)
        run = threading.Thread(
            target=launch,
            args=(partial(on_ranks.hold, str(go)), gang(name), client, Followed(lambda _: began.set())),
        )
        run.start()
        assert began.wait(60)
        found[name] = {address for address, _ in listening() - before}
        go.touch()
        run.join(60)
    assert found == {name: {"127.0.0.1"} for name in LAUNCHERS}
