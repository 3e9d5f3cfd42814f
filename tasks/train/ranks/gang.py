"""Run a function on all ranks or on none, and on fewer where some are lost.

A gang is so many workers, all taken before the first rank starts and all given back together. When a rank
is lost the others are ended, and as many ranks as are left, or have come back, start again: the function
goes on from its own last checkpoint. This is how torchrun's elastic agents do it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from tasks.errors import Unavailable
from tasks.train.ranks import host
from tasks.train.ranks.launcher import Launcher, Place
from tasks.train.ranks.numbers import require_possible
from tasks.train.ranks.rank import Rank
from tasks.train.ranks.running import RankLost, Running
from tasks.train.ranks.workers import Facts, Workers, chosen, places

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")

POLL_S = 0.25
SURVEY_S = 2.0
STOP_GRACE_S = 60.0
NO_PROGRESS = 3
"""Losses in a row, without anything told in between, after which a job is given up."""


@dataclass(frozen=True)
class Gang:
    """How many ranks, and where.

    Attributes:
        num_ranks: How many are wanted.
        launcher: How they find each other.
        min_ranks: How many are enough to go on when others are lost; None goes on with no less.
        ranks_per_host: On each host; None fills hosts one after the other.
        threads: Processor threads of a rank; None is a share of the worker's.
        patience_s: How long to wait for workers that other jobs have.
    """

    num_ranks: int
    launcher: Launcher
    min_ranks: int | None = None
    ranks_per_host: int | None = None
    threads: int | None = None
    patience_s: float = 24 * 3600.0


@dataclass
class Followed:
    """Who hears of a job, and what it is asked.

    Attributes:
        told: Called with what rank 0 tells.
        should_stop: Asked now and then; True asks the ranks to end.
        log: Called with a sentence, such as that a rank was lost.
    """

    told: Callable[[Any], None] = lambda _: None
    should_stop: Callable[[], bool] = lambda: False
    log: Callable[[str], None] = lambda _: None


def launch(
    function: Callable[[Rank], T],
    gang: Gang,
    client: Client,
    followed: Followed | None = None,
    *,
    joined: bool = True,
) -> T:
    """Run a function on every rank of a gang.

    Args:
        function: Called on each rank; pickled, so it is importable on the workers, or small.
        gang: How many ranks, and where.
        client: Of the Dask cluster whose workers host them.
        followed: Who hears of it.
        joined: Whether ranks are joined before the function is called; it finds the variables for it anyhow.

    Returns:
        What it returned on rank 0.

    Raises:
        InvalidSettings: There can be no such gang.
        Unavailable: The cluster has too few workers, or others than this process goes with.
        RankLost: A rank was lost, and too few are left.
        Exception: What the function raised on a rank, of the first rank that did.
    """
    import cloudpickle

    followed = followed or Followed()
    require_possible(gang.num_ranks, gang.min_ranks, gang.ranks_per_host)
    launcher = gang.launcher if joined else None
    workers = Workers(client)
    lost_in_a_row, least = 0, gang.num_ranks
    try:
        while True:
            job = uuid4().hex[:12]
            with _claimed(workers, gang, job, least, followed) as (taken, known):
                told: list[Any] = []

                def hear(said: Any, told: list[Any] = told) -> None:
                    told.append(said)
                    followed.told(said)

                running = Running(job, places(taken, known))
                contents = [cloudpickle.dumps((function, launcher, place)) for place in running.places]
                try:
                    kind, what = _run(running, contents, gang, workers, known, followed, hear)
                except RankLost as loss:
                    lost_in_a_row = 1 if told else lost_in_a_row + 1
                    least = gang.min_ranks or gang.num_ranks
                    if gang.min_ranks is None or lost_in_a_row >= NO_PROGRESS:
                        raise
                    followed.log(f"{loss.what}; at least {least} ranks go on from the last checkpoint.")
                    continue
            if kind == "result":
                result: T = what
                return result
            followed.log("A worker is there again: the ranks go on with it from here.")
    finally:
        workers.close()


@contextmanager
def _claimed(
    workers: Workers, gang: Gang, job: str, least: int, followed: Followed
) -> Iterator[tuple[list[str], Mapping[str, Facts]]]:
    """Workers that belong to the job: as many as are wanted, or at least the least; all or none."""
    deadline = time.monotonic() + gang.patience_s
    said = ""
    taken: list[str] = []
    try:
        while True:
            known = workers.survey(gang.launcher.packages)
            _refuse_too_few(known, gang, least)
            free = {address: one for address, one in known.items() if not one.holder}
            wanted = chosen(free, gang.num_ranks, gang.ranks_per_host)
            if len(wanted) >= least:
                answers = workers.call(host.claim, dict.fromkeys(wanted, (job,)))
                taken = [address for address in wanted if answers[address] is True]
                if len(taken) == len(wanted):
                    break
                workers.call(host.release, dict.fromkeys(taken, (job,)))  # somebody was quicker
                taken = []
            waiting = (
                f"Waits for {least} workers: {len(free)} of {len(known)} are free, the others belong to "
                f"{', '.join(sorted({one.holder for one in known.values() if one.holder}))}."
            )
            if waiting != said and len(free) < len(known):
                said = waiting
                followed.log(waiting)
            if followed.should_stop() or time.monotonic() > deadline:
                raise Unavailable(
                    f"{least} workers were not free", where="the Dask cluster", mend="try again later"
                )
            time.sleep(POLL_S)
        yield taken, known
    finally:
        if taken:
            workers.call(host.release, dict.fromkeys(taken, (job,)))


def _refuse_too_few(known: Mapping[str, Facts], gang: Gang, least: int) -> None:
    fitting = chosen(known, gang.num_ranks, gang.ranks_per_host)
    if len(fitting) >= least:
        return
    hosts = len({one.host for one in known.values()})
    each = f", {gang.ranks_per_host} on each host" if gang.ranks_per_host else ""
    raise Unavailable(
        f"{least} ranks{each} are asked for, and the cluster has {len(known)} workers on {hosts} "
        f"host{'s' if hosts != 1 else ''}, one for a rank",
        where="num_ranks",
        allowed=f"at most {len(fitting)}",
        mend="ask for fewer ranks, or let the block Dask Cluster have more workers",
    )


def _run(
    running: Running,
    contents: Sequence[bytes],
    gang: Gang,
    workers: Workers,
    known: Mapping[str, Facts],
    followed: Followed,
    hear: Callable[[Any], None],
) -> tuple[str, Any]:
    """Start the ranks and follow them to their end: `("result", what)` or `("resized", None)`."""
    address = _address_for(running.places)
    with gang.launcher.meeting(running.places, address) as environments:
        given = {
            place.worker: (running.job, content, {**environment, **_around(place, running.places, gang)})
            for place, content, environment in zip(running.places, contents, environments, strict=True)
        }
        for place, answer in zip(running.places, workers.call(host.start, given).values(), strict=True):
            if isinstance(answer, Exception):
                raise RankLost(f"rank {place.rank} did not start on {place.worker}: {answer}")
        surveyed_at = time.monotonic()
        while True:
            polled = workers.call(
                host.poll,
                {p.worker: (running.job,) for p in running.places if p.rank not in running.ended},
            )
            if (done := running.heard(polled, hear)) is not None:
                return done
            _ask_to_stop(running, workers, followed)
            if len(running.places) < gang.num_ranks and time.monotonic() - surveyed_at > SURVEY_S:
                surveyed_at = time.monotonic()
                others = {a: f for a, f in workers.survey(gang.launcher.packages).items() if not f.holder}
                mine = {place.worker: known[place.worker] for place in running.places}
                if len(chosen({**mine, **others}, gang.num_ranks, gang.ranks_per_host)) > len(mine):
                    workers.call(host.say, {p.worker: (running.job, "resize") for p in running.places})
            time.sleep(POLL_S)


def _ask_to_stop(running: Running, workers: Workers, followed: Followed) -> None:
    if running.asked_at is None and followed.should_stop():
        running.asked_at = time.monotonic()
        workers.call(host.say, {p.worker: (running.job, "stop") for p in running.places})
    if running.asked_at is not None and time.monotonic() - running.asked_at > STOP_GRACE_S:
        raise RankLost(f"the ranks did not end within {STOP_GRACE_S:g} s of being asked to")


def _around(place: Place, places: Sequence[Place], gang: Gang) -> dict[str, str]:
    """Variables that do not depend on the launcher: threads, the host's GPUs, and TensorFlow's cluster."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    workers = [f"{one.host}:{one.port}" for one in places]
    return {
        **({name: str(gang.threads) for name in threads} if gang.threads else {}),
        **({"CUDA_VISIBLE_DEVICES": ",".join(place.gpus)} if place.gpus else {}),
        "TF_CONFIG": json.dumps(
            {"cluster": {"worker": workers}, "task": {"type": "worker", "index": place.rank}}
        ),
    }


def _address_for(places: Sequence[Place]) -> str:
    """The address at which ranks reach this process."""
    if all(place.host.startswith("127.") or place.host == "::1" for place in places):
        return "127.0.0.1"
    from distributed.utils import get_ip

    return str(get_ip(places[0].host))
