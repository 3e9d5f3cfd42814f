"""The one word for a training never contradicts what Prefect and MLflow say of it."""

from __future__ import annotations

import itertools

import pytest

from infra.stack.tracking import _ENDS
from tasks.trainings.status import DRAFT, STATUSES, status

STATES = [None, "SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"]
ENDS = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


@pytest.mark.parametrize(
    ("state", "name", "run", "tag", "word"),
    [
        ("PAUSED", DRAFT, None, None, "draft"),
        ("PAUSED", "Paused", None, None, "pending"),
        ("SCHEDULED", "Late", None, None, "pending"),
        ("SCHEDULED", "Resuming", None, None, "pending"),
        ("RUNNING", "Running", None, None, "running"),
        ("RUNNING", "Running", "RUNNING", "running", "running"),
        ("CANCELLING", "Cancelling", "RUNNING", "running", "running"),
        (None, None, "RUNNING", "running", "running"),  # from a notebook
        (None, None, "KILLED", "running", "aborted"),  # its flow run was deleted, and somebody closed it
        ("RUNNING", "Running", "FINISHED", "running", "running"),  # own code closed its run, and goes on
        ("CRASHED", "Crashed", "FINISHED", "running", "failed"),  # and was killed
        ("CANCELLED", "Cancelled", "FINISHED", "running", "aborted"),
        ("RUNNING", "Running", "FINISHED", "succeeded", "succeeded"),  # the flow evaluates it
        ("FAILED", "Failed", "FINISHED", "succeeded", "succeeded"),  # a later step failed
        ("COMPLETED", "Completed", "FINISHED", "published", "published"),
        ("CANCELLED", "Cancelled", "KILLED", "published", "published"),  # its best model was registered
        ("CANCELLED", "Cancelled", "KILLED", "aborted", "aborted"),
        ("FAILED", "Failed", "FAILED", "failed", "failed"),
        ("SCHEDULED", "AwaitingRetry", "FAILED", "failed", "pending"),  # somebody pressed Retry
        ("CRASHED", "Crashed", "RUNNING", "running", "failed"),  # killed; not yet closed in MLflow
        ("CANCELLED", "Cancelled", "RUNNING", "running", "aborted"),
        ("CRASHED", "Crashed", None, None, "failed"),
        ("CANCELLED", "Cancelled", None, None, "aborted"),
        ("COMPLETED", "Completed", None, None, "succeeded"),
    ],
)
def test_the_word(state: str | None, name: str | None, run: str | None, tag: str | None, word: str) -> None:
    assert status(state, name, run, tag) == word


@pytest.mark.parametrize("end", ENDS)
def test_what_the_caretaker_will_write_is_said_already(end: str) -> None:
    run_status, tag = _ENDS[end]
    assert status(end, end.title(), "RUNNING", "running") == tag
    assert status(end, end.title(), run_status, tag) == tag


def test_every_combination_has_a_word_and_what_ended_is_not_running() -> None:
    for state, run, tag in itertools.product(
        [*STATES, *ENDS], [None, "RUNNING", "FINISHED", "FAILED", "KILLED"], [None, "running", "published"]
    ):
        word = status(state, state, run, tag)
        assert word in STATUSES
        if (run in ("FINISHED", "FAILED", "KILLED") and (tag != "running" or state is None)) or state in ENDS:
            assert word not in ("running", "draft")
