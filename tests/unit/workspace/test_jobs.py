"""The list of jobs: order, owner, and what each waits for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tasks.workspace.jobs import RunFacts, list_jobs, rows

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _run(name: str, state: str, *, due_s: int | None = None, started_s: int | None = None) -> RunFacts:
    return RunFacts(
        id=name, flow="train-model", name=name, state=state, tags=["workspace:vision", "user:ada", "nightly"],
        work_queue="default", created=NOW - timedelta(days=2),
        due=None if due_s is None else NOW + timedelta(seconds=due_s),
        started=None if started_s is None else NOW + timedelta(seconds=started_s),
    )  # fmt: skip


def test_running_jobs_come_first_and_later_ones_are_left_out() -> None:
    listed = list_jobs(
        [
            _run("late", "Late", due_s=-30),
            _run("tomorrow", "Scheduled", due_s=86_400),
            _run("running", "Running", due_s=-100, started_s=-90),
            _run("queued", "AwaitingConcurrencySlot", due_s=-7_500),
        ],
        NOW,
    )
    assert [job.name for job in listed] == ["running", "queued", "late"]
    running, queued, late = listed
    assert (running.waits_for, running.since) == ("", "1 min")
    assert "slot" in queued.waits_for
    assert queued.since == "2 h"
    assert "worker" in late.waits_for
    assert late.since == "30 s"


def test_tags_name_the_workspace_and_the_user() -> None:
    (row,) = rows(list_jobs([_run("a", "Pending")], NOW))
    assert (row["workspace"], row["user"], row["tags"]) == ("vision", "ada", "nightly")
    assert row["waits_for"] == "its process to start"
    assert row["since"] == "2 d"
