"""The Dask cluster that preprocessing, batch inference and ranks run on."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from prefect.blocks.core import Block
from pydantic import Field, ValidationInfo, field_validator

if TYPE_CHECKING:
    from distributed import Client, Security

SCHEMES = ("tcp", "tls", "ucx")
LEAST_BYTES = 64 * 2**20
"""A worker does not start with less memory, so a smaller limit is a unit that was forgotten."""


class DaskCluster(Block):
    """Worker processes on this host, for its processors or its GPUs, or a scheduler that runs already."""

    _block_type_name = "Dask Cluster"
    _block_type_slug = "dask-cluster"
    _description = "Dask workers: started on this host for the step, or an existing scheduler."

    address: str | None = Field(
        default=None,
        description="Address of a running scheduler, such as one of dask-ssh or of the Kubernetes operator; "
        "empty starts workers on this host.",
        examples=["tcp://10.0.0.5:8786", "tls://dask.example.org:8786"],
    )
    tls_ca_file: str | None = Field(
        default=None,
        description="PEM file, on the hosts of flows, of the authority that signed a tls:// scheduler's "
        "certificate; empty takes Dask's own configuration (distributed.comm.tls).",
    )
    tls_client_cert: str | None = Field(
        default=None, description="PEM file of the certificate that flows show to a tls:// scheduler."
    )
    tls_client_key: str | None = Field(
        default=None, description="PEM file of its key; empty where the key is in the certificate's file."
    )
    connect_timeout_s: float = Field(
        default=3.0,
        gt=0,
        le=600,
        description="Longest wait for a running scheduler and its workers, in seconds; more for a cluster "
        "that starts them when they are asked for.",
    )
    start_timeout_s: float = Field(
        default=60.0, ge=1, le=600, description="Longest wait for workers that are started here, in seconds."
    )
    n_workers: int = Field(default=2, ge=1, le=1024, description="Worker processes to start here.")
    threads_per_worker: int = Field(default=1, ge=1, le=256, description="Threads of each worker.")
    memory_limit: str = Field(
        default="auto",
        description="Memory of each worker started here, such as 4GiB, or 0.25 of the host's; auto shares "
        "the host's, 0 sets no limit.",
    )
    gpu_workers: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="Dask-CUDA workers for ranks, one a GPU; empty takes all GPUs of this host, 0 none.",
    )
    protocol: Literal["tcp", "ucx"] = Field(
        default="tcp", description="How Dask-CUDA workers talk; ucx needs the package distributed-ucxx."
    )
    nvlink: bool | None = Field(
        default=None, description="With ucx: use NVLink; empty lets UCX choose what the host has."
    )
    infiniband: bool | None = Field(
        default=None, description="With ucx: use InfiniBand; empty lets UCX choose what the host has."
    )
    device_memory_limit: str = Field(
        default="default",
        description="GPU memory above which Dask-CUDA moves its data to the host, such as 60GiB or 0.8; "
        "default is its own (0.8), auto all of the GPU's, 0 never.",
    )
    managed_memory: bool = Field(
        default=False,
        description="Unified memory of GPU and host for Dask-CUDA's data; needs the package rmm, and does "
        "not go with NVLink.",
    )

    @field_validator("address")
    @classmethod
    def _is_of_a_scheduler(cls, address: str | None) -> str | None:
        if not address:
            return None
        scheme, separator, place = address.strip().partition("://")
        if not separator or scheme not in SCHEMES:
            known = " or ".join(f"{one}://" for one in SCHEMES)
            raise ValueError(f"'{address}' does not start with {known}, as in tcp://10.0.0.5:8786")
        if place.count(":") > 1 and "[" not in place:
            raise ValueError(f"'{address}' needs its IPv6 address in brackets, as in tcp://[fd00::5]:8786")
        try:
            parts = urlsplit(f"//{place}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"'{address}' is no address of a scheduler: {error}") from error
        if not host or not port or parts.path.strip("/") or parts.query or parts.username:
            raise ValueError(f"'{address}' is not a host and a port, as in tcp://10.0.0.5:8786")
        return f"{scheme}://{place.rstrip('/')}"

    @field_validator("tls_ca_file", "tls_client_cert", "tls_client_key")
    @classmethod
    def _goes_with_tls(cls, path: str | None, info: ValidationInfo) -> str | None:
        if not path:
            return None
        address = info.data.get("address")
        if "address" in info.data and not str(address).startswith("tls://"):
            raise ValueError(f"is for a tls:// address, and address is {address or 'empty'}")
        if not Path(path).is_absolute():
            raise ValueError(f"'{path}' is not an absolute path")
        if info.field_name == "tls_client_key" and not info.data.get("tls_client_cert"):
            raise ValueError("is the key of a certificate, and tls_client_cert is empty")
        return path

    @field_validator("memory_limit", "device_memory_limit")
    @classmethod
    def _is_an_amount(cls, text: str, info: ValidationInfo) -> str:
        text = text.strip()
        words = ("auto",) if info.field_name == "memory_limit" else ("auto", "default")
        if text not in words:
            amount = limit_bytes(text, 2**50)
            if amount is not None and amount < LEAST_BYTES:
                raise ValueError(f"'{text}' is {amount} bytes; name a unit, as in 4GiB")
        return "1.0" if text == "1" else text  # which Dask-CUDA takes for one byte

    @field_validator("nvlink", "infiniband")
    @classmethod
    def _goes_with_ucx(cls, wanted: bool | None, info: ValidationInfo) -> bool | None:
        if wanted and info.data.get("protocol") == "tcp":
            raise ValueError("needs ucx as protocol: Dask-CUDA uses it through UCX alone")
        return wanted

    @field_validator("managed_memory")
    @classmethod
    def _goes_without_nvlink(cls, wanted: bool, info: ValidationInfo) -> bool:
        if wanted and info.data.get("nvlink"):
            raise ValueError("does not go with nvlink: CUDA cannot share managed memory between processes")
        return wanted

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Connect, starting workers for processors first where no address is given; all closed at exit."""
        with self._connected(1) if self.address else self._on_processors(self.n_workers) as client:
            yield client

    @contextmanager
    def rank_client(self, ranks: int, gpus: int) -> Iterator[Client]:
        """The same, for so many ranks; on a host with GPUs the workers have one each.

        Args:
            ranks: Workers to start, or to wait for where they run already.
            gpus: GPUs of this host that workers may be started for; see `gpu_workers`.
        """
        if self.address:
            starting = self._connected(ranks)
        elif gpus:
            starting = self._on_gpus(ranks)
        else:
            starting = self._on_processors(ranks, env={"CUDA_VISIBLE_DEVICES": ""})
        import dask.config

        with dask.config.set(_QUIET), starting as client:
            yield client

    @contextmanager
    def _connected(self, workers: int) -> Iterator[Client]:
        from distributed import Client

        began = time.monotonic()
        security = self._security() if str(self.address).startswith("tls://") else None
        with ThreadPoolExecutor(1) as aside:  # this thread may have a loop that runs
            greeting = _greet(str(self.address), self.connect_timeout_s, security)
            aside.submit(asyncio.run, greeting).result()
        with Client(self.address, timeout=self.connect_timeout_s, security=security) as client:
            left_s = self.connect_timeout_s - (time.monotonic() - began)
            client.wait_for_workers(workers, timeout=max(0.1, left_s))
            yield client

    def _security(self) -> Security:
        from distributed import Security

        files = {
            "tls_ca_file": self.tls_ca_file,
            "tls_client_cert": self.tls_client_cert,
            "tls_client_key": self.tls_client_key,
        }
        named = {name: path for name, path in files.items() if path}
        for path in named.values():
            with open(path, "rb"):  # Dask's own error does not say which one it cannot read
                pass
        return Security(require_encryption=True, **named)

    @contextmanager
    def _on_processors(self, n_workers: int, **options: Any) -> Iterator[Client]:
        from distributed import LocalCluster

        with self._started(LocalCluster, n_workers, **options) as client:
            yield client

    @contextmanager
    def _on_gpus(self, n_workers: int) -> Iterator[Client]:
        from dask_cuda import LocalCUDACluster

        options = {
            "protocol": self.protocol,
            "enable_nvlink": self.nvlink,
            "enable_infiniband": self.infiniband,
            "device_memory_limit": self.device_memory_limit,
            "rmm_managed_memory": self.managed_memory,
        }
        with self._started(LocalCUDACluster, n_workers, **options) as client:
            yield client

    @contextmanager
    def _started(self, kind: Any, n_workers: int, **options: Any) -> Iterator[Client]:
        """Workers of this host, on loopback, from their start to their end."""
        from distributed import Client
        from distributed.system import MEMORY_LIMIT

        # Dask's own auto divides by all processors of the host, however many workers there are.
        shared = MEMORY_LIMIT // n_workers
        cluster = kind.__new__(kind)
        try:  # from here on, since Dask-CUDA leaves the scheduler where a worker does not start
            with _started_within(self.start_timeout_s, cluster, n_workers):
                cluster.__init__(
                    n_workers=n_workers,
                    threads_per_worker=self.threads_per_worker,
                    memory_limit=shared if self.memory_limit == "auto" else self.memory_limit,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",  # None would still take port 8787
                    scheduler_sync_interval="10s",
                    **options,
                )
            with Client(cluster) as client:
                yield client
        finally:
            with suppress(AttributeError):  # it is not made yet
                cluster.close()


@contextmanager
def _started_within(timeout_s: float, cluster: Any, n_workers: int) -> Iterator[None]:
    """End workers that hang while they start: Dask waits for them without end, and cannot be closed."""
    running: list[int] = []

    def give_up() -> None:
        nannies = list(getattr(cluster, "_created", ()))
        running.append(sum(one.status.name == "running" for one in nannies))
        for nanny in nannies:
            if nanny.status.name != "running" and nanny.pid:
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(nanny.pid, signal.SIGKILL)

    timer = threading.Timer(timeout_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if running:
            raise TimeoutError(
                f"{running[0]} of {n_workers} workers were there after {timeout_s:g} s"
            ) from error
        raise
    finally:
        timer.cancel()


def limit_bytes(text: str, host_bytes: int) -> int | None:
    """A memory limit as Dask reads it, in bytes; None where it sets none.

    Args:
        text: An amount with its unit, a fraction up to 1.0, or 0.
        host_bytes: What a fraction is of.

    Raises:
        ValueError: It is none of these.
    """
    from dask.utils import parse_bytes

    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return int(float(text) * host_bytes) or None
    try:
        amount = int(parse_bytes(text))
    except ValueError:
        amount = -1
    if not text or amount < 0:
        raise ValueError(f"'{text}' is no amount of memory; such are 4GiB, 500MB, 0.25, 0 and auto")
    return amount or None


async def _greet(address: str, timeout_s: float, security: Security | None) -> None:
    """Exchange the first words with a scheduler: a client waits for them for ever.

    Raises:
        OSError: There is none, or nothing but silence.
        ValueError: This is no address.
    """
    from distributed.comm.core import connect

    encryption = security.get_connection_args("client") if security else {}
    connection = await asyncio.wait_for(connect(address, timeout=timeout_s, **encryption), timeout_s)
    await connection.close()


_QUIET: dict[str, Any] = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "5s",
    "distributed.admin.tick.interval": "2s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,
}
"""For workers that host ranks and run no tasks: what Dask looks at by itself took a tenth of a processor."""
