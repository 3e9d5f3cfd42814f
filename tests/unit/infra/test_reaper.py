"""How long a run may be without a process before it is recorded as crashed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.stack.reaper import Grace

AT = 1_000.0


@pytest.mark.parametrize(
    ("state", "worker_since", "expected_s"),
    [
        ("RUNNING", AT + 1, 20),
        ("CANCELLING", AT + 1, 60),
        ("PENDING", AT - 1, 90),  # the worker is about to start it
        ("PENDING", AT + 1, 20),  # the worker that was about to is gone
        ("PENDING", None, 90),
    ],
)
def test_nobody_starts_what_was_pending_before_the_worker(
    state: str, worker_since: float | None, expected_s: float
) -> None:
    timestamp = datetime.fromtimestamp(AT, UTC).isoformat()
    grace = Grace(running_s=20, pending_s=90, cancelling_s=60)
    assert grace.of({"type": state, "timestamp": timestamp}, worker_since) == expected_s
