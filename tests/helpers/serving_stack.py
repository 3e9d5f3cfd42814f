"""A real MLflow server and a real supervisor in a temporary data folder, for tests of serving."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from mlflow import MlflowClient

from tasks.evaluate.examples import DIGEST_TAG, EXAMPLES_TAG
from tasks.refs import ModelVersionRef
from tasks.train.bundle import Bundle

REPOSITORY = Path(__file__).resolve().parents[2]

_SUPERVISOR = """[unix_http_server]
file={home}/run/supervisor.sock
[supervisord]
nodaemon=true
logfile={home}/logs/supervisor.log
pidfile={home}/run/supervisord.pid
directory={repository}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files = {home}/supervisor.d/*.conf
"""


def wait_until(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not so within {timeout_s:g} s: {condition}")


def free_port() -> int:
    """A port below those that the kernel gives to outgoing connections.

    One of those could be taken by any other process's connection while the server on it starts again.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


@contextmanager
def running(command: list[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a process group of its own, which ends with the block."""
    with (folder / "output.log").open("ab") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            cwd=REPOSITORY, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class MlflowProcess:
    """An MLflow server on SQLite that can be stopped and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._running: Any = None

    def client(self) -> MlflowClient:
        """A client of this server's runs and registry, whatever registry the process was set to before."""
        return MlflowClient(self.uri, self.uri)

    def start(self) -> None:
        self._running = running(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
                *("--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--workers", "1"),
                *("--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts")),
            ],
            self.folder,
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        )
        self._running.__enter__()
        wait_until(self._healthy, timeout_s=90)

    def stop(self) -> None:
        if self._running is not None:
            running_now, self._running = self._running, None
            running_now.__exit__(None, None, None)

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.uri}/health", timeout=1).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def supervisor(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a supervisor with no programs of its own."""
    for name in ("run", "logs", "supervisor.d"):
        (home / name).mkdir(parents=True, exist_ok=True)
    configuration = home / "run" / "supervisord.conf"
    configuration.write_text(_SUPERVISOR.format(home=home, repository=REPOSITORY))
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(configuration)]
    with running(command, home / "logs") as process:
        wait_until((home / "run" / "supervisor.sock").exists)
        yield process


@contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder whose path leaves room for the name of a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="ty-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def register(
    tracking_uri: str,
    model: str,
    bundle_folder: Path,
    *,
    alias: str | None = "champion",
    examples: dict[str, Any] | None = None,
    digest: str | None = None,
) -> ModelVersionRef:
    """Put a bundle into MLflow as the next version of a model, as artifacts of a run of its own."""
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri)
    run_id = client.create_run("0").info.run_id
    client.log_artifacts(run_id, str(bundle_folder), "model/artifacts/bundle")
    bundle_digest = Bundle.load(bundle_folder).digest if digest is None else digest
    tags = {DIGEST_TAG: bundle_digest}
    if examples is not None:
        client.log_text(run_id, json.dumps(examples), "registration/examples.json")
        tags[EXAMPLES_TAG] = f"runs:/{run_id}/registration/examples.json"
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(model, source=f"runs:/{run_id}/model", run_id=run_id, tags=tags)
    if alias:
        client.set_registered_model_alias(model, alias, str(version.version))
    return ModelVersionRef(
        name=model,
        version=int(version.version),
        run_id=run_id,
        model_uri=version.source,
        digest=bundle_digest,
    )
