"""Slots: never more than there are, whoever asks when; in order; and in words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import Unavailable
from tasks.workspace import slots
from tasks.workspace.queue import visible_devices
from tasks.workspace.slots import Ask, Endpoint, Job, Needs, Quota, Snapshot, Stage, Verdict, at, verdict

VISION = "workspace vision"


def job(
    name: str,
    training: int = 1,
    *,
    priority: int = 2,
    since: float = 0.0,
    stage: Stage = Stage.WAITING,
    pools: tuple[str, ...] = (VISION,),
    serving: dict[str, int] | None = None,
) -> Job:
    needs = Needs(training=training, serving=serving or {})
    return Job(name, name, "ada", Ask(needs=needs, pools=pools, priority=priority, since=since, stage=stage))


def seen(*jobs: Job, total: int = 2, now: float = 100.0, **more: object) -> Snapshot:
    return Snapshot(jobs, {VISION: Quota(total, total)}, now=now, **more)  # type: ignore[arg-type]


def names(jobs: list[Job]) -> list[str]:
    return [one.name for one in jobs]


@given(
    asks=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), min_size=2, max_size=6),
    total=st.integers(3, 4),
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), min_size=40, max_size=120),
)
@settings(max_examples=400, deadline=None)
def test_no_more_are_taken_than_there_are_however_the_steps_of_jobs_interleave(
    asks: list[tuple[int, int, bool]], total: int, steps: list[tuple[int, int]]
) -> None:
    """Each job writes what it asks for, reads what is written, and acts on it later, when others went on.

    One that should wait keeps no process; it asks again when it is woken, here at its next step. Some steps
    kill a job wherever it is.
    """
    own = ((VISION,), (VISION, "site"))
    to_come = {
        f"job-{number}": job(f"job-{number}", count, priority=priority, since=number, pools=own[both])
        for number, (count, priority, both) in enumerate(asks)
    }
    written: dict[str, Job] = {}
    quotas = {VISION: Quota(total), "site": Quota(3)}
    read: dict[str, Snapshot] = {}

    def step(name: str) -> None:
        if name in to_come:
            written[name] = to_come.pop(name)
        elif name not in read:
            read[name] = Snapshot(tuple(written.values()), quotas)
        else:
            mine = written[name]
            decided = verdict(mine, read.pop(name))
            stage = {Verdict.CLAIM: Stage.CLAIMED, Verdict.TAKE: Stage.HELD, Verdict.WAIT: Stage.WAITING}
            written[name] = at(mine, stage.get(decided, mine.ask.stage), 1)
        holders = [one for one in written.values() if one.ask.stage is Stage.HELD]
        for pool, quota in quotas.items():
            assert slots.used(pool, holders, ())[0] <= (quota.training or 0)

    for who, what in steps:
        name = f"job-{who % len(asks)}"
        if what == 30 and name in written:
            read.pop(name, None)
            del written[name]
        elif name in written or name in to_come:
            step(name)
    # Undisturbed, the rest get their slots one after the other: nobody blocks anybody for ever.
    for _ in range(20 * len(asks)):
        for name in [*to_come, *written]:
            step(name)
            if written[name].ask.stage is Stage.HELD:
                del written[name]
    assert not written


def test_queues_go_by_priority_then_by_age_and_smaller_jobs_go_past_larger_ones() -> None:
    held = job("held", 1, stage=Stage.HELD)
    large, small = job("large", 2, priority=1, since=1.0), job("small", 1, priority=3, since=2.0)
    assert names(slots.admitted(seen(held, small, large))) == ["small"]
    assert names(slots.admitted(seen(small, large))) == ["large"]
    older, newer = job("older", 2, since=1.0), job("newer", 2, since=2.0)
    assert names(slots.admitted(seen(newer, older))) == ["older"]


def test_a_newcomer_does_not_take_what_one_before_it_is_about_to_take() -> None:
    first, newcomer = job("first", 2, since=1.0), job("newcomer", 1, since=2.0)
    assert verdict(newcomer, seen(first, newcomer)) is Verdict.WAIT
    assert verdict(first, seen(first, newcomer)) is Verdict.CLAIM


def test_a_job_that_has_waited_long_is_not_overtaken_for_ever() -> None:
    held, large, small = job("held", 1, stage=Stage.HELD), job("large", 2), job("small", 1, since=3_000.0)
    elsewhere = job("elsewhere", 1, since=3_000.0, pools=("workspace speech",))
    assert names(slots.admitted(seen(held, large, small, now=3_500.0))) == ["small"]
    later = seen(held, large, small, elsewhere, now=slots.OVERTAKEN_S + 1)
    assert names(slots.admitted(later)) == ["elsewhere"]
    urgent = job("urgent", 1, priority=1, since=3_000.0)
    assert names(slots.admitted(seen(held, large, urgent, now=3_500.0))) == ["urgent"]
    assert names(slots.admitted(seen(held, large, urgent, now=slots.OVERTAKEN_S + 1))) == []


def test_of_two_claims_that_do_not_fit_the_later_steps_back() -> None:
    first = job("first", 2, since=1.0, stage=Stage.CLAIMED)
    second = job("second", 1, since=2.0, stage=Stage.CLAIMED)
    assert verdict(second, seen(first, second)) is Verdict.WAIT
    assert verdict(first, seen(first, second)) is Verdict.ASK_AGAIN
    assert verdict(first, seen(first, at(second, Stage.WAITING, 1))) is Verdict.TAKE
    assert verdict(first, seen(first, at(second, Stage.HELD, 1))) is Verdict.WAIT  # it had not seen the first


def test_all_pools_must_have_the_slots() -> None:
    mine = job("mine", 2, pools=("site local (processors)", VISION))
    quotas = {VISION: Quota(4), "site local (processors)": Quota(2)}
    other = job("other", 1, stage=Stage.HELD, pools=("site local (processors)",))
    assert verdict(mine, Snapshot((mine,), quotas)) is Verdict.CLAIM
    assert verdict(mine, Snapshot((mine, other), quotas)) is Verdict.WAIT


def test_an_endpoint_and_the_job_that_starts_it_count_once() -> None:
    starting = job("starting", 1, stage=Stage.HELD, serving={"iris": 2})
    on = Endpoint("iris", 2, (VISION,))
    assert slots.used(VISION, [starting], [on]) == (1, 2)
    assert slots.used(VISION, [], [on, Endpoint("digits", 1, ("workspace speech",))]) == (0, 2)
    again = job("again", 0, serving={"iris": 2})
    assert verdict(again, seen(again, endpoints=[on])) is Verdict.CLAIM  # it is there already
    another = job("another", 0, serving={"digits": 1})
    assert verdict(another, seen(another, endpoints=[on])) is Verdict.WAIT


def test_gpus_of_a_host_are_given_out_one_by_one() -> None:
    first = at(slots.with_gpus(job("first", 2), seen(total=3)), Stage.HELD, 1)
    assert first.ask.gpus == (0, 1)
    second = at(slots.with_gpus(job("second", 1), seen(first, total=3)), Stage.CLAIMED, 1)
    assert second.ask.gpus == (2,)
    at_once = at(slots.with_gpus(job("third", 1, since=1.0), seen(first, total=4)), Stage.CLAIMED, 1)
    assert at_once.ask.gpus == (2,)  # there are slots for both, but they claimed the same one
    both = seen(first, second, at_once, total=4)
    assert verdict(at_once, both) is Verdict.WAIT
    assert verdict(second, both) is Verdict.ASK_AGAIN
    again = slots.with_gpus(at(at_once, Stage.WAITING, 1), seen(first, at(second, Stage.HELD, 1), total=4))
    assert again.ask.gpus == (3,)
    assert visible_devices((0, 1), {}) == "0,1"
    assert visible_devices((1,), {"CUDA_VISIBLE_DEVICES": "4,GPU-5"}) == "GPU-5"


def test_more_than_there_are_is_refused_in_numbers() -> None:
    with pytest.raises(Unavailable, match=r"3 training slots are needed, and workspace vision has 2"):
        slots.require_possible(job("mine", 3), {VISION: Quota(2)})
    with pytest.raises(Unavailable, match=r"1 serving slot is needed, and workspace vision has 0"):
        slots.require_possible(job("mine", 1, serving={"iris": 1}), {VISION: Quota(2, 0)})
    slots.require_possible(job("mine", 300), {VISION: Quota()})


def test_a_quota_that_is_lowered_lets_jobs_wait_until_it_is_raised() -> None:
    large = job("large", 3)
    assert verdict(large, seen(large, total=2)) is Verdict.WAIT
    assert slots.words(large, seen(large, total=2)).startswith(
        "Waits for 3 training slots of workspace vision: 2 of 2 free"
    )
    assert verdict(large, seen(large, total=3)) is Verdict.CLAIM


def test_a_waiting_job_says_what_for_who_has_it_and_its_place() -> None:
    held = job("train digits", 3, stage=Stage.HELD)
    first, mine = job("first", 4, since=1.0), job("mine", 2, since=2.0)
    said = slots.words(mine, seen(held, first, mine, total=4))
    assert said == (
        "Waits for 2 training slots of workspace vision: 1 of 4 free (train digits of ada has 3). "
        "Number 2 of 2 in the queue."
    )
    turn = slots.words(job("last", 1, since=9.0), seen(job("first", 2), job("last", 1, since=9.0)))
    assert turn == "Waits for its turn: those before it start first. Number 2 of 2 in the queue."
    serving = job("serving", 0, serving={"b": 1})
    assert "endpoint a has 2" in slots.words(serving, seen(serving, endpoints=[Endpoint("a", 2, (VISION,))]))


def test_a_job_that_steps_back_does_not_name_itself_as_who_has_the_slots() -> None:
    other = job("other", 1, stage=Stage.CLAIMED)
    claimed = job("mine", 2, since=1.0, stage=Stage.CLAIMED)
    behind = job("behind", 1, since=2.0)
    said = slots.words(at(claimed, Stage.WAITING, 1), seen(other, claimed, behind))
    assert said == (
        "Waits for 2 training slots of workspace vision: 1 of 2 free (other of ada has 1). "
        "Number 1 of 2 in the queue."
    )
