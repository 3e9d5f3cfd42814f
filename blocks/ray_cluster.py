"""The Ray cluster that tuning and sweeps run on."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.blocks.core import Block
from pydantic import Field

PROJECT = Path(__file__).resolve().parents[1]


class RayCluster(Block):
    """Ray started on this host for the study, or a cluster that runs already."""

    _block_type_name = "Ray Cluster"
    _block_type_slug = "ray-cluster"
    _description = "Ray for tuning and sweeps: started on this host, or an existing cluster."

    address: str | None = Field(
        default=None,
        description="Address of a running Ray cluster; empty starts Ray on this host.",
        examples=["ray://10.0.0.5:10001"],
    )
    num_cpus: int = Field(default=2, ge=1, le=1024, description="CPUs that local Ray may use.")
    temp_dir: str | None = Field(
        default=None,
        max_length=60,
        description="Folder of local Ray's sockets and logs, with a short path; empty makes one for each "
        "session and removes it at the end.",
    )

    @contextmanager
    def session(self) -> Iterator[None]:
        """Connect this process to Ray; local Ray is stopped at exit, and its private folder removed.

        Ray's own SIGTERM handler stays in place: with it, all of Ray's processes end within seconds
        when the flow run is cancelled.
        """
        settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0"}
        if not self.address:
            # Ray listens on every interface of a Linux host, unless it is told that there is no
            # cluster by this switch, which is named after the systems where that is the default.
            settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # A script's own folder is on the driver's path and not on the workers'.
        path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))
        with _environment({**settings, "PYTHONPATH": path}):
            import ray

            if self.address:
                ray.init(
                    address=self.address,
                    log_to_driver=False,
                    runtime_env={"env_vars": {"PYTHONPATH": path}},
                )
                try:
                    yield
                finally:
                    ray.shutdown()
                return
            from ray._private import ray_constants

            # Read once, when Ray was first imported, which may have been before this.
            ray_constants.ENABLE_RAY_CLUSTER = False
            folder = self.temp_dir or tempfile.mkdtemp(prefix="ray-", dir=_short_temporary_folder())
            try:
                ray.init(
                    num_cpus=self.num_cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=200 * 2**20,
                    _temp_dir=folder,
                )
                yield
            finally:
                ray.shutdown()
                if self.temp_dir is None:
                    # Ray's last process may still be writing its log; what it leaves is a few lines.
                    shutil.rmtree(folder, ignore_errors=True)


def _short_temporary_folder() -> str:
    """Unix sockets have paths of at most 107 bytes, of which Ray's own names take most."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= 20 or sys.platform == "win32" else "/tmp"  # noqa: S108


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
