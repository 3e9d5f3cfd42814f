"""Two ranks on this host as `torchrun` and `horovodrun` start them, and the workers for ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client, LocalCluster

REPOSITORY = Path(__file__).resolve().parents[2]
_PROGRAMS = Path(sys.executable).parent

STARTERS = {
    "torch": [str(_PROGRAMS / "torchrun"), "--nproc-per-node", "2"],
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
    """Two Dask workers that have been asked for something already."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(os.getpid)
        yield client
