"""Finding and ending the stack's processes by the marks in their environment."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from infra.stack import processes

_WAIT = "import signal, time; signal.signal(signal.SIGTERM, signal.{}); print(1, flush=True); time.sleep(60)"


@pytest.fixture
def stack_id() -> Iterator[str]:
    name = secrets.token_hex(8)
    yield name
    assert not list(processes.of_stack(name))


def started(stack_id: str, on_term: str = "SIG_DFL", **environment: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WAIT.format(on_term)],
        env={**os.environ, processes.STACK_ID: stack_id, **environment},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_processes_are_known_by_the_stack(stack_id: str) -> None:
    plain = started(stack_id)
    flow = started(stack_id, **{processes.FLOW_RUN: "run-1"})
    assert {pid for pid, _ in processes.of_stack(stack_id)} == {plain.pid, flow.pid}
    assert processes.flow_runs(stack_id) == {"run-1": [flow.pid]}
    assert processes.sweep(stack_id) == 2
    assert processes.sweep(stack_id) == 0


def test_one_that_ignores_the_request_is_killed(stack_id: str) -> None:
    stubborn = started(stack_id, on_term="SIG_IGN")
    began = time.monotonic()
    processes.end([stubborn.pid], grace_s=0.3)
    assert not processes.alive(stubborn.pid)
    stubborn.wait(5)
    assert time.monotonic() - began < 5


def test_nobody_ends_itself() -> None:
    assert {os.getpid(), os.getppid()} <= processes.own_line()
    assert processes.end([os.getpid(), os.getppid()]) == 0


def test_the_holder_of_a_port_is_named() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert f"process {os.getpid()} " in processes.holder_of_port(port)
        assert processes.listens(os.getpid(), port)
    assert not processes.listens(os.getpid(), port)
