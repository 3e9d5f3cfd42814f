"""CPU, memory, GPU, disk and network while a run lasts, under the names that MLflow's page groups as system.

MLflow's own monitor ends with the first sample or request that fails, and samples too rarely for a training
of half a minute. This one uses its collectors, and sends what they find along with the run's other metrics.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor

Put = Callable[[int, dict[str, float]], None]

SHORTEST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 10.0
_OF_ELAPSED = 0.02
"""A sample for every fiftieth of the time so far: some 120 points in ten minutes, 360 in each hour after."""
SYSTEM_PREFIX = "system/"

Sample = Callable[[], dict[str, float]]

_log = logging.getLogger(__name__)


class SystemMetrics:
    """Samples this host until it is stopped.

    Args:
        put: Takes the number of a sample and its values; must not wait for anything.
        first: Number of the first sample: one more than the last of an earlier attempt.
    """

    def __init__(self, put: Put, first: int = 0) -> None:
        self._put = put
        self._number = first
        self._stopped = threading.Event()
        work = contextvars.copy_context().run  # what cannot be charted is said in the log of the flow run
        self._thread = threading.Thread(target=work, args=(self._work,), name="system metrics", daemon=True)

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
        samples = _samples()
        began = time.monotonic()
        pause_s = SHORTEST_PAUSE_S
        while samples and not self._stopped.wait(pause_s):
            values: dict[str, float] = {}
            for name, sample in list(samples.items()):
                try:
                    values |= sample()
                except Exception as error:  # psutil's, NVML's: the others go on
                    _log.warning("The %s is not charted any more: %s", name, error)
                    del samples[name]
            self._put(self._number, {SYSTEM_PREFIX + name: float(value) for name, value in values.items()})
            self._number += 1
            pause_s = min(max(_OF_ELAPSED * (time.monotonic() - began), SHORTEST_PAUSE_S), LONGEST_PAUSE_S)


def _samples() -> dict[str, Sample]:
    """What is charted, by its name; left out is what this host does not tell."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    ways: dict[str, Callable[[], Sample]] = {
        "share of this process": _of_process,
        "CPU": lambda: _of_cpu(CPUMonitor()),
        "disk": lambda: _of_monitor(DiskMonitor()),
        "network": lambda: _of_monitor(NetworkMonitor()),
        "GPU": lambda: _of_monitor(GPUMonitor()),
    }
    found = {}
    for name, way in ways.items():
        try:
            found[name] = way()
        except Exception as error:
            # No NVIDIA GPU, or none of its library, is nothing to tell of.
            if name != "GPU" or not isinstance(error, ImportError | RuntimeError):
                _log.warning("The %s is not charted: %s", name, error)
    return found


def _of_process() -> Sample:
    process = psutil.Process()
    process.cpu_percent()  # tells the share since it was last asked; the first answer means nothing
    return lambda: {
        "process_cpu_utilization_percentage": process.cpu_percent(),
        "process_memory_usage_megabytes": round(process.memory_info().rss / 1e6, 1),
    }


def _of_cpu(monitor: BaseMetricsMonitor) -> Sample:
    psutil.cpu_percent()  # as of the process
    return _of_monitor(monitor)


def _of_monitor(monitor: BaseMetricsMonitor) -> Sample:
    def sample() -> dict[str, float]:
        monitor.collect_metrics()
        values = dict(monitor.aggregate_metrics())
        monitor.clear_metrics()
        return values

    return sample
