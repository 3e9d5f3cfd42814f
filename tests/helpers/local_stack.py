"""The real local stack in a temporary data folder on spare ports, driven by its own command."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from infra.stack import processes

REPOSITORY = Path(__file__).resolve().parents[2]
SCRATCH_DEPLOYMENTS = REPOSITORY / "tests" / "assets" / "stack_deployments.yaml"
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def spare_ports(count: int) -> list[int]:
    """Ports that nothing listens on, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def wait_until(condition: Callable[[], Any], timeout_s: float = 60.0, every_s: float = 0.2) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(every_s)
    raise AssertionError(f"not so within {timeout_s:g} s")


class LocalStack:
    """One stack: its environment, its commands and its API.

    Attributes:
        home: Data folder.
        environment: What a process needs to use this stack and no other.
        api_url: Prefect's API.
    """

    def __init__(self, home: Path, deployments_file: Path | None = None, **settings: str) -> None:
        self.home = home
        prefect, mlflow, docs, endpoints = spare_ports(4)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TRAINYARD_", "PREFECT_", "MLFLOW_"))
        }
        self.settings = {
            "TRAINYARD_HOME": str(home),
            "TRAINYARD_PREFECT_PORT": str(prefect),
            "TRAINYARD_MLFLOW_PORT": str(mlflow),
            "TRAINYARD_DOCS_PORT": str(docs),
            "TRAINYARD_ENDPOINT_PORT": str(min(endpoints, 60000)),
            **({"TRAINYARD_DEPLOYMENTS_FILE": str(deployments_file)} if deployments_file else {}),
            **settings,
        }
        self.environment = {**inherited, **self.settings}
        self.prefect_port, self.mlflow_port, self.docs_port = prefect, mlflow, docs
        self.api_url = f"http://127.0.0.1:{prefect}/api"
        self.mlflow_url = f"http://127.0.0.1:{mlflow}"

    def command(
        self, *arguments: str, timeout_s: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `trainyard` with arguments; its exit code and output are the caller's to judge."""
        return subprocess.run(
            [sys.executable, "-m", "infra.cli", *arguments],
            cwd=REPOSITORY,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `trainyard` without waiting for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "infra.cli", *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def up(self) -> None:
        done = self.command("up")
        assert done.returncode == 0, done.stdout + done.stderr + self.tails()

    def down(self) -> None:
        done = self.command("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return document

    def services(self) -> dict[str, dict[str, Any]]:
        return {service["name"]: service for service in self.status()["services"]}

    def all_healthy(self) -> bool:
        return all(service["healthy"] for service in self.services().values())

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask Prefect's API, again where its database is busy (503)."""

        def answered() -> httpx.Response | None:
            answer = httpx.request(method, f"{self.api_url}{path}", json=body, timeout=30, trust_env=False)
            return None if answer.status_code == 503 else answer

        answer: httpx.Response = wait_until(answered)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def create_run(self, deployment: str, tags: Sequence[str] = (), **parameters: Any) -> str:
        """Create a flow run of a deployment (`flow/name`); returns its id."""
        found = self.call("GET", f"/deployments/name/{deployment}")
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}, "tags": list(tags)}
        return str(self.call("POST", f"/deployments/{found['id']}/create_flow_run", body)["id"])

    def state(self, run_id: str) -> dict[str, Any]:
        state: dict[str, Any] = self.call("GET", f"/flow_runs/{run_id}")["state"]
        return state

    def wait_final(self, run_id: str, timeout_s: float = 120) -> dict[str, Any]:
        """Wait until a run has ended; returns its state."""

        def ended() -> dict[str, Any] | None:
            state = self.state(run_id)
            return state if state["type"] in FINAL else None

        state: dict[str, Any] = wait_until(ended, timeout_s)
        return state

    def champion_metrics(self, model: str) -> dict[str, float]:
        """Metrics of the run behind a model's champion, from MLflow's REST API."""
        api = f"{self.mlflow_url}/api/2.0/mlflow"
        about = {"name": model, "alias": "champion"}
        version = httpx.get(f"{api}/registered-models/alias", params=about, trust_env=False).json()
        run_id = version["model_version"]["run_id"]
        run = httpx.get(f"{api}/runs/get", params={"run_id": run_id}, trust_env=False).json()["run"]
        return {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}

    def pids(self) -> list[int]:
        """Every process that carries this stack's id."""
        file = self.home / "run" / "stack-id"
        return [pid for pid, _ in processes.of_stack(file.read_text().strip())] if file.exists() else []

    def tails(self) -> str:
        """The ends of all logs, for a failed assertion."""
        parts = []
        for log in sorted((self.home / "logs").glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-15:]
            parts.append("\n".join([f"--- {log.name}", *lines]))
        return "\n" + "\n".join(parts)
