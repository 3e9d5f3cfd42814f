"""The Dask cluster that preprocessing, batch inference and ranks run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from prefect.blocks.core import Block
from pydantic import Field

if TYPE_CHECKING:
    from distributed import Client


class DaskCluster(Block):
    """Worker processes on this host, for its processors or its GPUs, or a scheduler that runs already."""

    _block_type_name = "Dask Cluster"
    _block_type_slug = "dask-cluster"
    _description = "Dask workers: started on this host for the step, or an existing scheduler."

    address: str | None = Field(
        default=None,
        description="Address of a running scheduler, such as one of dask-ssh or of the Kubernetes operator; "
        "empty starts workers on this host.",
        examples=["tcp://10.0.0.5:8786"],
    )
    connect_timeout_s: float = Field(
        default=5.0, gt=0, le=600, description="Longest wait for a running scheduler to answer, in seconds."
    )
    n_workers: int = Field(default=2, ge=1, le=1024, description="Worker processes to start here.")
    threads_per_worker: int = Field(default=1, ge=1, le=256, description="Threads of each worker.")
    memory_limit: str = Field(
        default="auto", description="Memory of each worker, such as 4GiB; auto shares the host's."
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
        "default is its own, 0 never.",
    )
    managed_memory: bool = Field(
        default=False,
        description="Unified memory of GPU and host for Dask-CUDA's data; needs the package rmm.",
    )

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Connect, starting workers for processors first where no address is given; all closed at exit."""
        with self._connected() if self.address else self._on_processors() as client:
            yield client

    @contextmanager
    def rank_client(self, ranks: int, gpus: int) -> Iterator[Client]:
        """The same, for so many ranks; on a host with GPUs the workers have one each.

        Args:
            ranks: Workers to start, where none run already.
            gpus: GPUs of this host that workers may be started for; see `gpu_workers`.
        """
        if self.address:
            starting = self._connected()
        elif gpus:
            starting = self._on_gpus(ranks)
        else:
            starting = self._on_processors(ranks, env={"CUDA_VISIBLE_DEVICES": ""})
        with starting as client:
            yield client

    @contextmanager
    def _connected(self) -> Iterator[Client]:
        from distributed import Client

        with Client(self.address, timeout=self.connect_timeout_s) as client:
            yield client

    @contextmanager
    def _on_processors(self, n_workers: int | None = None, **options: Any) -> Iterator[Client]:
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=n_workers or self.n_workers,
                threads_per_worker=self.threads_per_worker,
                memory_limit=self.memory_limit,
                **_ON_LOOPBACK,
                **options,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client

    @contextmanager
    def _on_gpus(self, n_workers: int) -> Iterator[Client]:
        from dask_cuda import LocalCUDACluster
        from distributed import Client

        with (
            LocalCUDACluster(
                n_workers=n_workers,
                threads_per_worker=self.threads_per_worker,
                memory_limit=self.memory_limit,
                protocol=self.protocol,
                enable_nvlink=self.nvlink,
                enable_infiniband=self.infiniband,
                device_memory_limit=self.device_memory_limit,
                rmm_managed_memory=self.managed_memory,
                **_ON_LOOPBACK,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client


_ON_LOOPBACK: dict[str, Any] = {
    "host": "127.0.0.1",
    "dashboard_address": "127.0.0.1:0",  # None would still take port 8787
}
