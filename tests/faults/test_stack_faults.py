"""Every process of the stack is killed in turn, and its runs' processes; all of it heals by itself."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers.local_stack import SCRATCH_DEPLOYMENTS, LocalStack, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

SERVICES = ("prefect", "mlflow", "docs", "worker", "caretaker", "queue", "keeper", "supervisor")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    stack = LocalStack(tmp_path_factory.mktemp("faults") / "home", SCRATCH_DEPLOYMENTS)
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


@pytest.fixture
def signs(tmp_path: Path) -> Path:
    folder = tmp_path / "signs"
    folder.mkdir()
    return folder


def wait_healed(stack: LocalStack, name: str, killed: int) -> None:
    """Wait until all is healthy and another process has taken the place of the killed one."""

    def healed() -> bool:
        services = stack.services()
        return services[name]["pid"] != killed and all(s["healthy"] for s in services.values())

    try:
        wait_until(healed, 120)
    except AssertionError:
        raise AssertionError(f"{name} did not heal: {stack.services()}{stack.tails()}") from None


def flow_process(run_id: str, stack: LocalStack) -> int:
    """The process of a flow run (not those that it started)."""

    def find() -> int | None:
        for pid in stack.pids():
            try:
                process = psutil.Process(pid)
                if process.environ().get("PREFECT__FLOW_RUN_ID") == run_id and "prefect" in " ".join(
                    process.cmdline()
                ):
                    return pid
            except psutil.Error:
                continue
        return None

    return int(wait_until(find))


def began(stack: LocalStack, signs: Path, seconds: float = 300) -> str:
    """Start a run that takes its time; returns once its step has begun."""
    before = len(list(signs.iterdir()))
    run = stack.create_run("patient/short", folder=str(signs), seconds=seconds)
    wait_until(lambda: len(list(signs.iterdir())) > before)
    return run


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "terminate"])
@pytest.mark.parametrize("name", SERVICES)
def test_whichever_process_is_killed_comes_back(stack: LocalStack, name: str, how: signal.Signals) -> None:
    pid = stack.services()[name]["pid"]
    os.kill(pid, how)
    wait_healed(stack, name, pid)


def test_the_inner_server_of_mlflow_comes_back(stack: LocalStack) -> None:
    outer = stack.services()["mlflow"]["pid"]
    for child in psutil.Process(outer).children(recursive=True):
        child.kill()
    wait_healed(stack, "mlflow", outer)


def test_supervisor_and_keeper_at_once_need_up(stack: LocalStack) -> None:
    services = stack.services()
    for name in ("keeper", "supervisor"):
        os.kill(services[name]["pid"], signal.SIGKILL)
    stack.up()
    wait_until(stack.all_healthy)


def test_runs_work_after_the_killing(stack: LocalStack, signs: Path) -> None:
    run = stack.create_run("patient/short", folder=str(signs))
    assert stack.wait_final(run)["type"] == "COMPLETED"


def test_a_killed_flow_process_is_a_crashed_run(stack: LocalStack, signs: Path) -> None:
    run = began(stack, signs)
    os.kill(flow_process(run, stack), signal.SIGKILL)
    assert stack.wait_final(run, 60)["type"] == "CRASHED"


def test_a_run_outlives_its_worker_and_completes(stack: LocalStack, signs: Path) -> None:
    run = began(stack, signs, seconds=20)
    worker = stack.services()["worker"]["pid"]
    os.kill(worker, signal.SIGKILL)
    wait_healed(stack, "worker", worker)
    assert stack.wait_final(run, 90)["type"] == "COMPLETED"


def test_a_run_whose_worker_and_process_are_killed_is_closed(stack: LocalStack, signs: Path) -> None:
    run = began(stack, signs)
    process, worker = flow_process(run, stack), stack.services()["worker"]["pid"]
    os.kill(worker, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)
    assert stack.wait_final(run, 90)["type"] == "CRASHED"
    wait_healed(stack, "worker", worker)


def test_cancelling_a_run_whose_worker_was_replaced_ends_its_process(stack: LocalStack, signs: Path) -> None:
    run = began(stack, signs)
    process, worker = flow_process(run, stack), stack.services()["worker"]["pid"]
    os.kill(worker, signal.SIGKILL)
    wait_healed(stack, "worker", worker)
    stack.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    # The process says on its way out that it crashed; what it was asked for stands in the end.
    wait_until(lambda: stack.state(run)["type"] == "CANCELLED", 150)
    wait_until(lambda: not psutil.pid_exists(process))


@pytest.mark.parametrize("after_s", [2.0, 5.0, 9.0])
def test_up_cut_short_and_called_again(tmp_path: Path, after_s: float) -> None:
    """Everything is killed while the databases are being made; the next `up` succeeds."""
    stack = LocalStack(tmp_path / "home", SCRATCH_DEPLOYMENTS)
    try:
        process = stack.start("up")
        time.sleep(after_s)  # the moment is the point
        process.kill()
        process.communicate()
        for pid in stack.pids():
            os.kill(pid, signal.SIGKILL)
        stack.up()
        for service in ("prefect", "mlflow"):
            with sqlite3.connect(stack.home / service / f"{service}.db") as connection:
                assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    finally:
        stack.down()
    assert stack.pids() == []
