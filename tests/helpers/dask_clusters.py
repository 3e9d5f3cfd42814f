"""Dask clusters for tests: workers under nannies, or a scheduler and workers that are started by hand."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from distributed import Client, LocalCluster

from tests.helpers.serving_stack import wait_until

ROOT = Path(__file__).parents[2]


@contextmanager
def two_workers() -> Iterator[Client]:
    """Two worker processes of one thread each; their nannies start them again when they are killed."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


class DaskProcesses:
    """A scheduler and workers as they are started by hand; what is killed stays away.

    Args:
        folder: For the scheduler's address and the logs.
        workers: How many are started at once.
        nanny: Whether workers have one that starts them again.
        host: The loopback address, as Dask writes it.
        options: More for each worker, as `--name=value`; the scheduler has those of TLS and the protocol too.
    """

    def __init__(
        self,
        folder: Path,
        workers: int = 2,
        *,
        nanny: bool = False,
        host: str = "127.0.0.1",
        options: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.nanny, self.host, self.options = folder, nanny, host, options
        self.workers: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        both = [one for one in options if one.startswith(("--tls-", "--protocol"))]
        self.scheduler = self._start("scheduler", f"--scheduler-file={file}", "--port=0", *both)
        try:
            # The file is written in place: it may be there before its content is.
            self.address: str = wait_until(lambda: _address(file))
            for _ in range(workers):
                self.add_worker()
            logs = [folder / f"worker-{number}.log" for number in range(workers)]
            wait_until(lambda: all("Registered to" in log.read_text() for log in logs), 120)
        except BaseException:
            self.close()
            raise

    def add_worker(self, root: Path = ROOT) -> subprocess.Popen[bytes]:
        """Start one more worker, with the project's code of a folder."""
        usual = ("--nanny" if self.nanny else "--no-nanny", "--nthreads=1", "--memory-limit=0")
        worker = self._start("worker", self.address, *usual, *self.options, root=root)
        self.workers.append(worker)
        return worker

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of it; leaving does not wait for a scheduler that is gone."""
        client = Client(self.address, timeout=30)
        try:
            yield client
        finally:
            client.close(timeout=5)

    def process_at(self, address: str) -> psutil.Process:
        """The process of the worker at an address: that which listens there."""
        port = int(address.rpartition(":")[2])
        below = [child for one in self.workers for child in _tree(one.pid)]
        return next(one for one in below if port in _listening(one))

    def close(self) -> None:
        """Kill all of it; ranks go with their workers."""
        for process in (*self.workers, self.scheduler):
            for one in _tree(process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()

    def __enter__(self) -> DaskProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, what: str, *arguments: str, root: Path = ROOT) -> subprocess.Popen[bytes]:
        number = len(self.workers)
        where = (f"--host={self.host}", "--dashboard-address=127.0.0.1:0")
        with (self.folder / f"{what}-{number}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments, *where],
                cwd=root,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(root)},
            )


def running_ranks(mark: str = "") -> dict[int, psutil.Process]:
    """The ranks that run, by their number; only those whose environment has a mark, where one is given."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        if "tasks.train.ranks.child" in (process.info["cmdline"] or []):
            with contextlib.suppress(psutil.Error, KeyError):
                variables = process.environ()
                if mark in variables.values() or not mark:
                    found[json.loads(variables["TF_CONFIG"])["task"]["index"]] = process
    return found


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _listening(process: psutil.Process) -> set[int]:
    return {one.laddr.port for one in process.net_connections("tcp") if one.status == "LISTEN"}


def _address(file: Path) -> str | None:
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return str(content["address"])
