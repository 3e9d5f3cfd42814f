"""What `trainyard run` shows while it waits, and how it prints a summary."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from rich.console import Console

from infra import run as main_job
from infra.terminal import Markdown


def printed(what: Any) -> str:
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def waiting(seconds: float) -> dict[str, Any]:
    due = datetime.now(UTC) - timedelta(seconds=seconds)
    return {
        "state": {"type": "SCHEDULED", "name": "Late"},
        "expected_start_time": due.isoformat(),
        "estimated_run_time": 0.0,
    }


@pytest.mark.parametrize(("seconds", "said"), [(5, False), (120, True)])
def test_a_run_that_waits_long_says_so_in_a_terminal_too(seconds: float, said: bool) -> None:
    text = printed(main_job._picture(waiting(seconds), [], [], "iris"))
    assert "iris" in text
    assert ("waiting for the worker" in text) is said


def test_a_table_without_header_has_no_blank_lines_for_it() -> None:
    rows = ["| data | iris |", "| took | 9 s |"]
    with_header = printed(Markdown("\n".join(["| a | b |", "|---|---|", *rows])))
    without = printed(Markdown("\n".join(["|  |  |", "|---|---|", *rows])))
    assert len(without.strip("\n").splitlines()) == 2
    assert "a" in with_header.strip().splitlines()[0]


def test_a_refusal_is_unwrapped() -> None:
    assert main_job._reason(httpx.Response(409, json={"detail": "5 is not a string"})) == "5 is not a string"
    assert main_job._reason(httpx.Response(502, text="bad gateway")) == "bad gateway"
