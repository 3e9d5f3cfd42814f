"""The Dask cluster that preprocessing, batch inference and ranks run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefect.blocks.core import Block
from pydantic import Field

if TYPE_CHECKING:
    from distributed import Client


class DaskCluster(Block):
    """Local Dask worker processes, or a scheduler that runs already."""

    _block_type_name = "Dask Cluster"
    _block_type_slug = "dask-cluster"
    _description = "Dask workers: started on this host for the step, or an existing scheduler."

    address: str | None = Field(
        default=None,
        description="Address of a running scheduler; empty starts workers on this host.",
        examples=["tcp://10.0.0.5:8786"],
    )
    n_workers: int = Field(default=2, ge=1, le=1024, description="Worker processes to start here.")
    threads_per_worker: int = Field(default=1, ge=1, le=256, description="Threads of each worker.")
    memory_limit: str = Field(
        default="auto", description="Memory of each worker, such as 4GiB; auto shares the host's."
    )

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Connect, starting the workers first where no address is given; all is closed at exit."""
        from distributed import Client, LocalCluster

        if self.address:
            with Client(self.address) as client:
                yield client
            return
        with (
            LocalCluster(
                n_workers=self.n_workers,
                threads_per_worker=self.threads_per_worker,
                memory_limit=self.memory_limit,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # None would still take port 8787
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
