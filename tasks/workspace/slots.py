"""Slots: how many devices the jobs of a workspace, and those of a site, may use at once. Plain decisions.

What is used is counted from jobs that live; there is no counter that could leak. Jobs decide for themselves,
each in its own process: a job claims its slots first, and takes them once it has seen that all claims fit
together. Two that claim at once see each other; the later one steps back. `verdict` is one such step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import Unavailable

OVERTAKEN_S = 3600.0
"""A job that has waited for so long is not overtaken any more, by smaller ones or more urgent ones."""


class Needs(BaseModel):
    """The slots that a job needs: one a GPU, or one a processor slot where it uses none.

    Attributes:
        training: Ranks, or trials at a time.
        serving: Worker processes by endpoint.
        device: What a slot of the training is.
    """

    model_config = ConfigDict(frozen=True)

    training: int = Field(default=0, ge=0)
    serving: dict[str, int] = Field(default_factory=dict)
    device: Literal["gpu", "cpu"] = "cpu"


class Stage(StrEnum):
    """How far a job has come on its way to its slots."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    HELD = "held"


class Ask(BaseModel):
    """What a job asks for, as it is written down with its flow run.

    Attributes:
        needs: How many slots.
        pools: What they are counted in: its site's devices, and its workspace.
        priority: Of its work queue; 1 goes first.
        since: When it asked first, in seconds since 1970.
        stage: How far it has come.
        attempt: The start of its process, from 1, that claimed or holds them.
        site: Which set of blocks it uses.
        gpus: Which GPUs it claimed, where they are those of one host.
    """

    model_config = ConfigDict(frozen=True)

    needs: Needs
    pools: tuple[str, ...]
    priority: int
    since: float
    stage: Stage = Stage.WAITING
    attempt: int = 0
    site: str = "local"
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class Job:
    """A job that has slots, or asks for them.

    Attributes:
        id: Its flow run.
        name: Name of the flow run.
        user: Whose it is.
        ask: What it asks for.
    """

    id: str
    name: str
    user: str
    ask: Ask

    @property
    def order(self) -> tuple[int, float, str]:
        """The lowest goes first."""
        return self.ask.priority, self.ask.since, self.id


@dataclass(frozen=True)
class Quota:
    """Slots of a pool; None is no limit."""

    training: int | None = None
    serving: int | None = None


@dataclass(frozen=True)
class Endpoint:
    """An endpoint that is switched on.

    Attributes:
        name: Its name.
        slots: Its worker processes.
        pools: What they are counted in.
    """

    name: str
    slots: int
    pools: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """All that is known at one moment.

    Attributes:
        jobs: Jobs that live and ask, claim or hold.
        endpoints: Those that are switched on.
        quotas: Of each pool.
        now: Seconds since 1970.
    """

    jobs: Sequence[Job]
    quotas: Mapping[str, Quota]
    endpoints: Sequence[Endpoint] = ()
    now: float = 0.0

    @property
    def holders(self) -> list[Job]:
        return [job for job in self.jobs if job.ask.stage is Stage.HELD]

    @property
    def claimants(self) -> list[Job]:
        return sorted((job for job in self.jobs if job.ask.stage is Stage.CLAIMED), key=lambda job: job.order)

    @property
    def queue(self) -> list[Job]:
        """Those that wait, in the order in which they are to start."""
        return sorted((job for job in self.jobs if job.ask.stage is Stage.WAITING), key=lambda job: job.order)


class Verdict(StrEnum):
    """What a job that wants its slots does next."""

    CLAIM = "claim"
    TAKE = "take"
    ASK_AGAIN = "ask again"
    WAIT = "wait"


def verdict(mine: Job, seen: Snapshot) -> Verdict:
    """The next step of a job.

    A job takes its slots only where all claims that it sees fit, its own among them. Of two jobs that took
    slots which do not fit together, the one that claimed later would have seen the other's claim; so there
    is no such pair, however their steps interleave.

    Args:
        mine: The job, as it is written down.
        seen: What was read after that was written.
    """
    if mine.ask.stage is Stage.HELD:
        return Verdict.TAKE
    if mine.ask.stage is Stage.WAITING:
        may = any(job.id == mine.id for job in admitted(seen))
        return Verdict.CLAIM if may else Verdict.WAIT
    others = [job for job in seen.claimants if job.id != mine.id]
    if _fits(mine, [*seen.holders, *others], seen):
        return Verdict.TAKE
    before = [job for job in others if job.order < mine.order]
    return Verdict.ASK_AGAIN if _fits(mine, [*seen.holders, *before], seen) else Verdict.WAIT


def admitted(seen: Snapshot) -> list[Job]:
    """Waiting jobs that may start now: in order, smaller ones past those that do not fit yet."""
    taken = [*seen.holders, *seen.claimants]
    closed: set[str] = set()
    start = []
    # The oldest come first, whatever their priority: or newcomers would go past a large job for ever.
    waited_long = [job for job in seen.queue if seen.now - job.ask.since > OVERTAKEN_S]
    for job in (*waited_long, *(job for job in seen.queue if job not in waited_long)):
        if not closed & set(job.ask.pools) and _fits(job, taken, seen):
            start.append(job)
            taken.append(job)
        elif job in waited_long:
            closed |= set(job.ask.pools)
    return start


def used(pool: str, holders: Sequence[Job], endpoints: Sequence[Endpoint]) -> tuple[int, int]:
    """Training and serving slots of a pool in use; an endpoint and the job that starts it count once."""
    training = sum(job.ask.needs.training for job in holders if pool in job.ask.pools)
    serving: dict[str, int] = {one.name: one.slots for one in endpoints if pool in one.pools}
    for job in holders:
        if pool in job.ask.pools:
            for name, slots in job.ask.needs.serving.items():
                serving[name] = max(slots, serving.get(name, 0))
    return training, sum(serving.values())


def _fits(job: Job, holders: Sequence[Job], seen: Snapshot) -> bool:
    sharing = [one for one in holders if one.ask.site == job.ask.site]
    return not _short(job, holders, seen) and not _gpus_of(sharing) & set(job.ask.gpus)


def with_gpus(job: Job, seen: Snapshot) -> Job:
    """A job that claims the first GPUs of its host that nobody has or claims."""
    others = [one for one in (*seen.holders, *seen.claimants) if one.ask.site == job.ask.site]
    free = [
        gpu for gpu in range(len(_gpus_of(others)) + job.ask.needs.training) if gpu not in _gpus_of(others)
    ]
    chosen = tuple(free[: job.ask.needs.training])
    return replace(job, ask=job.ask.model_copy(update={"gpus": chosen}))


def _gpus_of(jobs: Sequence[Job]) -> set[int]:
    return {gpu for job in jobs for gpu in job.ask.gpus}


def _short(job: Job, holders: Sequence[Job], seen: Snapshot) -> list[tuple[str, str, int, int, int]]:
    """What a job lacks: pool, kind of slot, how many it needs, how many are free, how many there are."""
    lacking = []
    for pool in job.ask.pools:
        quota = seen.quotas.get(pool, Quota())
        before, after = used(pool, holders, seen.endpoints), used(pool, [*holders, job], seen.endpoints)
        for kind, total, there, wanted in (
            ("training", quota.training, before[0], after[0]),
            ("serving", quota.serving, before[1], after[1]),
        ):
            if total is not None and wanted > there and wanted > total:
                lacking.append((pool, kind, wanted - there, max(0, total - there), total))
    return lacking


def require_possible(job: Job, quotas: Mapping[str, Quota], endpoints: Sequence[Endpoint] = ()) -> None:
    """Check that a job could have its slots if all others ended and all other endpoints were switched off.

    Raises:
        Unavailable: It needs more than there are, in numbers.
    """
    needs = {"training": job.ask.needs.training, "serving": sum(job.ask.needs.serving.values())}
    lacking = _never(job, quotas, endpoints)
    if lacking:
        raise Unavailable(
            "; ".join(
                f"{_slots(needs[kind], kind)} {'is' if needs[kind] == 1 else 'are'} needed, and "
                f"{pool} has {total}"
                for pool, kind, _, _, total in lacking
            ),
            where="num_ranks, max_parallel or workers of the endpoint",
            allowed="; ".join(
                f"at most {total} {kind} slots in {pool}" for pool, kind, _, _, total in lacking
            ),
            mend="ask for fewer, or have more: the flow apply-workspace sets those of a workspace, the block "
            "Device Slots those of a site",
        )


def _never(
    job: Job, quotas: Mapping[str, Quota], endpoints: Sequence[Endpoint]
) -> list[tuple[str, str, int, int, int]]:
    """What a job would lack if all others ended."""
    own = [one for one in endpoints if one.name in job.ask.needs.serving]
    return _short(job, [], Snapshot((), quotas, own))


def words(job: Job, seen: Snapshot) -> str:
    """What a waiting job waits for: how many slots of what, who has them, and its place in the queue."""
    seen = replace(seen, jobs=[*(one for one in seen.jobs if one.id != job.id), job])  # it may have claimed
    holders = [*seen.holders, *seen.claimants]
    pools = set(job.ask.pools)
    sharing = [one.id for one in seen.queue if one.id == job.id or pools & set(one.ask.pools)]
    lacking = _short(job, holders, seen)
    told = [
        f"{_slots(needs, kind)} of {pool}: {free} of {total} free"
        + f" ({_who(pool, kind, holders, seen.endpoints) or 'nobody has any'})"
        for pool, kind, needs, free, total in lacking
    ]
    what = "; ".join(told) if told else "its turn: those before it start first"
    return f"Waits for {what}. Number {sharing.index(job.id) + 1} of {len(sharing)} in the queue."


def holders_in_words(pool: str, kind: str, seen: Snapshot) -> str:
    """Who has the slots of a pool, such as `train digits of ada has 2`."""
    return _who(pool, kind, [*seen.holders, *seen.claimants], seen.endpoints)


def _who(pool: str, kind: str, holders: Sequence[Job], endpoints: Sequence[Endpoint]) -> str:
    """Who has the slots of a pool, the largest first."""
    shares: dict[str, int] = {}
    for job in holders:
        if pool in job.ask.pools:
            needs = job.ask.needs
            share = needs.training if kind == "training" else sum(needs.serving.values())
            who = job.name + (f" of {job.user}" if job.user else "")
            shares[who] = shares.get(who, 0) + share
    if kind == "serving":
        started = {name for job in holders for name in job.ask.needs.serving}
        shares |= {
            f"endpoint {one.name}": one.slots
            for one in endpoints
            if pool in one.pools and one.name not in started
        }
    every = sorted(((name, share) for name, share in shares.items() if share), key=lambda pair: -pair[1])
    told = [f"{name} has {share}" for name, share in every[:5]]
    return ", ".join(told) + (f", {len(every) - 5} others" if len(every) > 5 else "")


def devices(needs: Needs) -> str:
    """The slots that a job needs, as a list of jobs shows them."""
    serving = sum(needs.serving.values())
    unit = {"gpu": "GPU", "cpu": "CPU"}[needs.device]
    told = [f"{needs.training} {unit}"] if needs.training else []
    return ", ".join(told + ([f"{serving} serving"] if serving else []))


def _slots(count: int, kind: str) -> str:
    return f"{count} {kind} slot{'s' if count > 1 else ''}"


def at(job: Job, stage: Stage, attempt: int) -> Job:
    """A job at another stage; one that waits claims no GPUs."""
    gpus = () if stage is Stage.WAITING else job.ask.gpus
    return replace(job, ask=job.ask.model_copy(update={"stage": stage, "attempt": attempt, "gpus": gpus}))
