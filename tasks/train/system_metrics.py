"""CPU, memory, GPU, disk and network while a run lasts, under the names that MLflow's page groups as system.

MLflow's own monitor ends with the first request that fails, and samples too rarely for a training of half a
minute. This one uses its collectors, and sends what they find along with the run's other metrics.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

Put = Callable[[dict[str, float], int], None]

SHORTEST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 10.0
_OF_ELAPSED = 0.02
"""A sample for every fiftieth of the time so far: some 120 points in ten minutes, 360 in each hour after."""
PREFIX = "system/"


class SystemMetrics:
    """Samples this host until it is stopped.

    Args:
        put: Takes the values of one sample and its number; must not wait for anything.
        first: Number of the first sample: one more than the last of an earlier attempt.
    """

    def __init__(self, put: Put, first: int = 0) -> None:
        self._put = put
        self._number = first
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="system metrics", daemon=True)

    def start(self) -> None:
        """Begin; the first sample comes after two seconds."""
        self._thread.start()

    def stop(self) -> None:
        """End, and return when no more samples come."""
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        if self._stopped.wait(SHORTEST_PAUSE_S):
            return  # too short to chart, and to import the collectors for
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with suppress(ImportError, RuntimeError):  # no NVIDIA GPU, or none of its library
            monitors.append(GPUMonitor())
        process = psutil.Process()
        psutil.cpu_percent()  # tells the share since it was last asked; the first answer means nothing
        process.cpu_percent()
        began = time.monotonic()
        pause_s = SHORTEST_PAUSE_S
        while not self._stopped.wait(pause_s):
            values = {
                "process_cpu_utilization_percentage": process.cpu_percent(),
                "process_memory_usage_megabytes": round(process.memory_info().rss / 1e6, 1),
            }
            for monitor in monitors:
                monitor.collect_metrics()
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            self._put({PREFIX + name: float(value) for name, value in values.items()}, self._number)
            self._number += 1
            pause_s = min(max(_OF_ELAPSED * (time.monotonic() - began), SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
