"""Jobs that take slots on a stack with a live worker, and the lists that tell of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.helpers.local_stack import SCRATCH_DEPLOYMENTS, LocalStack, wait_until

VISION = ["workspace:vision", "user:ada"]


@contextmanager
def shared_stack(home: Path, **settings: str) -> Iterator[LocalStack]:
    """A stack with room for many processes, four processor slots, and a workspace with two of them."""
    stack = LocalStack(home, SCRATCH_DEPLOYMENTS, TRAINYARD_WORKER_LIMIT="8", **settings)
    try:
        stack.up()
        document = stack.call("GET", "/block_types/slug/device-slots/block_documents/name/local")
        stack.call("PATCH", f"/block_documents/{document['id']}", {"data": {"cpus": 4}})
        vision = {"name": "vision", "manager": "ada", "training_slots": 2, "serving_slots": 1}
        state = stack.wait_final(stack.create_run("apply-workspace/step", workspace=vision))
        assert state["type"] == "COMPLETED", f"{state['message']}{stack.tails()}"
        yield stack
    finally:
        stack.down()


class Jobs:
    """Jobs of one test, by name."""

    def __init__(self, stack: LocalStack, signs: Path) -> None:
        self._stack, self._signs = stack, signs
        self.ids: dict[str, str] = {}

    def start(self, name: str, queue: str = "low", tags: list[str] = VISION, **more: Any) -> None:
        where = {"name": name, "folder": str(self._signs)}
        self.ids[name] = self._stack.create_run(f"holding/{queue}", tags, **where, **more)

    def began(self, name: str, timeout_s: float = 60) -> int:
        """Wait until a job has its slots; returns its process."""
        sign = self._signs / f"began-{name}"
        wait_until(lambda: sign.exists() and sign.read_text(), timeout_s)
        return int(sign.read_text())

    def waits(self, name: str) -> str:
        """Wait until a job waits for slots; returns what it says."""

        def message() -> str:
            state = self._stack.state(self.ids[name])
            return str(state["message"]) if state["name"] == "AwaitingSlots" else ""

        return str(wait_until(message))

    def end(self, name: str) -> None:
        (self._signs / f"end-{name}").touch()

    def is_waiting(self, name: str) -> bool:
        return self._stack.state(self.ids[name])["name"] == "AwaitingSlots"

    def end_all(self) -> None:
        """Let every job end, those that wait as well."""
        for name in self.ids:
            self.end(name)
        for name in self.ids:
            self.final(name)

    def final(self, name: str) -> dict[str, Any]:
        return self._stack.wait_final(self.ids[name])

    def row(self, name: str) -> dict[str, str]:
        """The line of a job in the list that is kept up to date."""
        rows = {row["id"]: row for row in table(self._stack, "jobs-now")}
        return rows.get(self.ids[name], {})


def table(stack: LocalStack, key: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(stack.call("GET", f"/artifacts/{key}/latest")["data"])
    return rows


def used(stack: LocalStack) -> dict[str, tuple[int, int, int]]:
    """Training slots in use, in all, and jobs that wait for them, by what they are of."""
    return {
        row["of"]: (int(row["used"]), int(row["total"]), int(row["jobs that wait"]))
        for row in table(stack, "slots-now")
        if row["for"] == "training"
    }


def process_of(run_id: str) -> int:
    """The process of a flow run; 0 where there is none."""
    every = psutil.process_iter(["environ"])
    return next((one.pid for one in every if _is_of(one, run_id)), 0)


def _is_of(process: psutil.Process, run_id: str) -> bool:
    environment = process.info["environ"] or {}
    return bool(environment.get("PREFECT__FLOW_RUN_ID") == run_id)
