"""The workers of a cluster as places for ranks: what they have, whose they are, and who can go together."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.errors import Unavailable
from tasks.train.ranks import host, process
from tasks.train.ranks.launcher import Place

if TYPE_CHECKING:
    from distributed import Client

CALL_S = 10.0
SCHEDULER_S = 30.0
"""How long a worker and the scheduler may take for an answer: without the scheduler the job is at its end."""
LOOK_S = 1.0
"""Time between two looks at whether workers and scheduler are there while an answer is waited for."""
_SHARED = ("dask", "distributed", "numpy", "cloudpickle")


@dataclass(frozen=True)
class Facts:
    """What a worker says of itself.

    Attributes:
        host: Address of its host.
        interface: The network interface with this address.
        port: One that is free on its host.
        gpu: The GPU that it may use, by its index; empty where it has none.
        holder: The job that it belongs to; empty where it is free.
        versions: Of Python, packages and this project's code.
    """

    host: str
    interface: str
    port: int
    gpu: str
    holder: str
    versions: Mapping[str, str]


def facts(packages: Sequence[str], dask_worker: Any = None) -> Facts:
    """Of this worker; Dask gives the worker."""
    import psutil

    address = dask_worker.address.rpartition("://")[2].rpartition(":")[0].strip("[]")
    interface = next(
        (
            name
            for name, addresses in psutil.net_if_addrs().items()
            if address in (one.address for one in addresses)
        ),
        "",
    )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "") if os.path.exists("/proc/driver/nvidia") else ""
    with socket.create_server((address, 0), family=_family(address)) as probe:
        port = probe.getsockname()[1]
    return Facts(address, interface, port, visible.split(",")[0], host.holder(), versions(packages))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of what the driver and all ranks must have alike."""
    found = {"python": platform.python_version()}
    for package in (*_SHARED, *packages):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    found["trainyard"] = _code_digest()
    return found


@cache
def _code_digest() -> str:
    """SHA-256 of this project's code, hex."""
    digest = hashlib.sha256()
    for path in sorted((process.ROOT / "tasks").rglob("*.py")):
        digest.update(str(path.relative_to(process.ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


class _Call(NamedTuple):
    """A call to a worker, and what will come of it."""

    function: Callable[..., Any]
    future: Future[Any]


class Workers:
    """The workers of a cluster, asked each by itself: one that stands still holds no other up."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(max_workers=256, thread_name_prefix="worker-call")
        self._late: dict[str, _Call] = {}

    def close(self) -> None:
        """Let go of calls that were never answered."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def driver(self) -> str:
        """By what name the scheduler knows this process."""
        return str(self._client.id)

    def addresses(self) -> list[str]:
        """Of all workers that the scheduler knows.

        Raises:
            Unavailable: The scheduler is gone.
        """
        # Not by `scheduler_info`: a look of the client's own, in between, may leave it without workers.
        asked = self._pool.submit(self._client.nthreads)
        deadline = time.monotonic() + SCHEDULER_S
        while self._client.status == "running" and time.monotonic() < deadline:
            try:
                return sorted(asked.result(LOOK_S))
            except TimeoutError:
                continue
            except OSError:
                break
        raise Unavailable(
            "the scheduler of the Dask cluster does not answer",
            where="the block Dask Cluster",
            mend="start it again; a retry of the run goes on from the last checkpoint",
        )

    def call(self, function: Callable[..., Any], arguments: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Call a function on workers at the same time, where no earlier call waits for its answer yet.

        Args:
            function: Quick to answer.
            arguments: What it is called with, by the worker's address.

        Returns:
            What it returned, or the exception: `TimeoutError` where there is no answer yet; it is given to
            the next call of the same function.

        Raises:
            Unavailable: The scheduler is gone.
        """
        calls: dict[str, _Call] = {}
        waited: dict[str, Future[Any]] = {}
        for address, given in arguments.items():
            late = self._late.pop(address, None)
            if late is None or (late.future.done() and late.function is not function):
                waited[address] = self._pool.submit(self._client.run, function, *given, workers=[address])
                late = _Call(function, waited[address])
            calls[address] = late
        deadline = time.monotonic() + CALL_S
        gone: set[str] = set()
        while wait(waited.values(), timeout=LOOK_S).not_done and time.monotonic() < deadline:
            # A call to a worker that is gone fails after half a minute; the scheduler knows it at once.
            gone |= waited.keys() - set(self.addresses())
            waited = {address: one for address, one in waited.items() if address not in gone}
        if any(isinstance(one.exception(), OSError) for one in waited.values() if one.done()):
            self.addresses()  # was it the worker that is gone, or the scheduler in between?
        answers: dict[str, Any] = {}
        for address, call in calls.items():
            if address in gone:
                answers[address] = LookupError("it is gone")
            elif not call.future.done() or call.function is not function:
                self._late[address] = call
                answers[address] = TimeoutError(f"it did not answer for {CALL_S:g} s")
            elif error := call.future.exception():
                answers[address] = error
            else:
                answers[address] = call.future.result().get(address, LookupError("it is gone"))
        return answers

    def survey(self, packages: Sequence[str]) -> dict[str, Facts]:
        """What the workers that answer say of themselves.

        Raises:
            Unavailable: One of them has other versions than this process, or cannot import the project.
        """
        answers = self.call(facts, dict.fromkeys(self.addresses(), (packages,)))
        for address, answer in answers.items():
            if isinstance(answer, ImportError):
                raise Unavailable(
                    f"the worker {address} cannot import Trainyard: {answer}",
                    where="the Dask cluster",
                    mend="start its workers in the same environment as the flows",
                ) from answer
        found = {address: one for address, one in answers.items() if isinstance(one, Facts)}
        _refuse_other_versions(found, versions(packages))
        return found


def _refuse_other_versions(found: Mapping[str, Facts], here: Mapping[str, str]) -> None:
    differing: dict[str, set[str]] = defaultdict(set)
    for address, one in found.items():
        for name, version in one.versions.items():
            if version != here[name]:
                said = "other code" if name == "trainyard" else f"{version}, here {here[name]}"
                differing[f"{name} {said}"].add(address)
    if differing:
        raise Unavailable(
            "workers have other versions than the flow: "
            + "; ".join(f"{what} ({', '.join(sorted(where))})" for what, where in sorted(differing.items())),
            where="the Dask cluster",
            mend="start the workers from the same lock file and the same code",
        )


def chosen(free: Mapping[str, Facts], ranks: int, per_host: int | None) -> list[str]:
    """Workers for so many ranks, those of a host next to each other; fewer where there are not enough.

    Args:
        free: Workers that may be taken.
        ranks: How many are wanted.
        per_host: Ranks of each host; None fills the hosts with the most free workers first.
    """
    by_host: dict[str, list[str]] = defaultdict(list)
    for address, one in sorted(free.items()):
        by_host[one.host].append(address)
    taken: list[str] = []
    for _, addresses in sorted(by_host.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        if per_host is None:
            taken += addresses[: ranks - len(taken)]
        elif len(addresses) >= per_host and len(taken) + per_host <= ranks:
            taken += addresses[:per_host]
    return taken


def places(workers: Iterable[str], known: Mapping[str, Facts]) -> list[Place]:
    """The places of ranks on workers that stand in the order of their hosts."""
    by_host: dict[str, list[str]] = defaultdict(list)
    for address in workers:
        by_host[known[address].host].append(address)
    sizes = tuple(len(addresses) for addresses in by_host.values())
    found: list[Place] = []
    for host_rank, (name, addresses) in enumerate(by_host.items()):
        gpus = tuple(known[address].gpu for address in addresses)
        for local_rank, address in enumerate(addresses):
            found.append(
                Place(
                    rank=len(found),
                    local_rank=local_rank,
                    host_rank=host_rank,
                    local_sizes=sizes,
                    worker=address,
                    host=name,
                    interface=known[address].interface,
                    port=known[address].port,
                    gpus=gpus if all(gpus) and len({*gpus}) == len(gpus) else (),  # else as the worker has it
                )
            )
    return found
