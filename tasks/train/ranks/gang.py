"""Run a function on all ranks or on none, and on fewer where some are lost.

A gang is so many workers, all taken before the first rank starts. When a rank is lost the others are ended,
and as many ranks as are left, or have come back, start again: the function goes on from its own last
checkpoint. This is how torchrun's elastic agents do it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from tasks.train.ranks import host
from tasks.train.ranks.claims import POLL_S, Claims
from tasks.train.ranks.launcher import Launcher, Place
from tasks.train.ranks.numbers import require_possible
from tasks.train.ranks.process import Share
from tasks.train.ranks.rank import Rank
from tasks.train.ranks.running import RankLost, Running
from tasks.train.ranks.workers import Workers

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")

SURVEY_S = 2.0
LOOKS_SHARE = 0.05
LONGEST_PAUSE_S = 2.0
STOP_GRACE_S = 600.0
"""How long ranks that are asked to end may take: as long as a validation pass that is under way."""
STEADY_S = 60.0
"""Ranks that ran for so long have kept a checkpoint: what ends them is not what ended those before."""
LOSSES_IN_A_ROW = 3
LOSSES = 100
"""Losses after which a job is given up: in a row, each after a short while, and in all."""


@dataclass(frozen=True)
class Gang:
    """How many ranks, and where.

    Attributes:
        num_ranks: How many are wanted.
        launcher: How they find each other.
        min_ranks: How many are enough to go on when others are lost; None goes on with no less.
        ranks_per_host: On each host; None fills hosts one after the other.
        threads: Processor threads of a rank; None leaves it to the worker's variables.
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
        every_round: Called every now and then while the ranks run: see `_pause_s`.
    """

    told: Callable[[Any], None] = lambda _: None
    should_stop: Callable[[], bool] = lambda: False
    log: Callable[[str], None] = lambda _: None
    every_round: Callable[[], None] = lambda: None


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
        FitStopped: It was stopped while it waited for workers.
        RankLost: A rank was lost, and too few are left.
        Exception: What the function raised on a rank, of the first rank that did.
    """
    followed = followed or Followed()
    require_possible(gang.num_ranks, gang.min_ranks, gang.ranks_per_host)
    workers = Workers(client)
    claims = Claims(
        workers, uuid4().hex[:12], gang.num_ranks, gang.ranks_per_host, gang.launcher.packages, followed.log
    )
    least, losses, in_a_row = gang.num_ranks, 0, 0
    try:
        while True:
            claims.gather(least, followed.should_stop, patience_s=gang.patience_s, after_loss=bool(losses))
            began = time.monotonic()
            try:
                kind, what = _run(function, joined, gang, workers, claims, followed)
            except RankLost as loss:
                losses += 1
                in_a_row = 1 if time.monotonic() - began > STEADY_S else in_a_row + 1
                given_up = in_a_row >= LOSSES_IN_A_ROW or losses >= LOSSES
                if gang.min_ranks is None or given_up or followed.should_stop():
                    raise
                least = gang.min_ranks
                followed.log(f"{loss.what}; at least {least} ranks go on from the last checkpoint.")
                claims.end_ranks()
                continue
            if kind == "result":
                result: T = what
                return result
            followed.log("A worker is there again: the ranks go on with it from here.")
            claims.end_ranks()
    finally:
        try:
            claims.release()
        finally:
            workers.close()


def _run(
    function: Callable[[Rank], Any],
    joined: bool,
    gang: Gang,
    workers: Workers,
    claims: Claims,
    followed: Followed,
) -> tuple[str, Any]:
    """Start the ranks and follow them to their end: `("result", what)` or `("resized", None)`."""
    import cloudpickle

    running = Running(claims.job, claims.places)
    with gang.launcher.meeting(running.places, _address_for(running.places)) as environments:
        launcher = gang.launcher if joined else None
        given = {}
        for place, environment in zip(running.places, environments, strict=True):
            variables = {**environment, **_around(place, running.places, gang)}
            content = cloudpickle.dumps((function, launcher, place, variables))
            given[place.worker] = (running.job, content, variables, _share(place, gang))
        for place, answer in zip(running.places, workers.call(host.start, given).values(), strict=True):
            if isinstance(answer, Exception):
                raise RankLost(f"rank {place.rank} did not start on {place.worker}: {answer}")
        began = looked_at = time.monotonic()
        while True:
            followed.every_round()
            asked = [p.worker for p in running.places if p.rank not in running.ended]
            if time.monotonic() - looked_at > SURVEY_S:
                looked_at = time.monotonic()
                running.gone(set(asked) - set(workers.addresses()))  # sooner than a call to it fails
                few = len(running.places) < gang.num_ranks
                if few and "resize" not in running.wishes and claims.could_grow():
                    running.wishes.append("resize")
            polled = workers.call(host.poll, dict.fromkeys(asked, (running.job, tuple(running.wishes))))
            if (done := running.heard(polled, followed.told)) is not None:
                kind, size = done
                return kind, _result(workers, running, size) if kind == "result" else None
            _ask_to_stop(running, followed)
            time.sleep(_pause_s(time.monotonic() - began))


def _pause_s(ran_s: float) -> float:
    """Time until ranks that ran for so long are looked at again.

    Each look takes its time from ranks that have the host's processors, and all wait for the one that lost.
    """
    return min(LONGEST_PAUSE_S, max(POLL_S, LOOKS_SHARE * ran_s))


def _share(place: Place, gang: Gang) -> Share | None:
    if gang.threads is None or place.gpus:
        return None
    return Share(place.local_rank, place.local_size, gang.threads)


def _result(workers: Workers, running: Running, size: int) -> Any:
    """What the function returned on rank 0, fetched in parts: it may be a large model.

    Raises:
        RankLost: Its worker went away before it was all here.
    """
    import cloudpickle

    root = running.places[0].worker
    content = bytearray()
    while len(content) < size:
        part = workers.call(host.part, {root: (running.job, len(content))})[root]
        if isinstance(part, BaseException):
            raise RankLost(f"rank 0 is lost with its worker {root}: {part}")
        content += part
    return cloudpickle.loads(bytes(content))[1]


def _ask_to_stop(running: Running, followed: Followed) -> None:
    if running.asked_at is None and followed.should_stop():
        running.asked_at = time.monotonic()
        running.wishes.append("stop")
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
