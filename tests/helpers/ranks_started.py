"""Two ranks on this host as `torchrun` and `horovodrun` start them, and the workers for ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from blocks.dask_cluster import DaskCluster

REPOSITORY = Path(__file__).resolve().parents[2]
_PROGRAMS = Path(sys.executable).parent

STARTERS = {
    "torch": [str(_PROGRAMS / "torchrun"), "--nproc-per-node", "2", "--master-addr", "127.0.0.1"],
    "horovod": [
        str(_PROGRAMS / "horovodrun"), "-np", "2", "-H", "localhost:2", "--gloo", sys.executable,
    ],
}  # fmt: skip

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ENVIRONMENT = {
    **os.environ,
    **_ONE_THREAD,
    "GLOO_SOCKET_IFNAME": "lo",
    "PYTHONPATH": str(REPOSITORY),
    "PATH": f"{_PROGRAMS}{os.pathsep}{os.environ['PATH']}",
}
"""What ranks of all sides find. Dask's own variables for its workers are not among them."""


@contextmanager
def two_workers() -> Iterator[Client]:
    """Two Dask workers, as a training has them, that have been asked for something already."""
    with DaskCluster(n_workers=2).rank_client(2, gpus=0) as client:
        client.run(os.getpid)
        yield client
