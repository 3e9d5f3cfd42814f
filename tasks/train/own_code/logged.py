"""Metrics that the code logs to MLflow itself, read while it runs."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tasks.train.own_code.events import Point
from tasks.train.own_code.opened import opened_metrics
from tasks.train.system_metrics import SYSTEM_PREFIX

EVERY_S = 2.0
_SHARE = 0.02
"""Asking may take this share of the time: a run with very many metrics is asked for less often."""
_LAST_S = 2.0
"""How long the last answer is waited for, when the code has ended."""


class LoggedReader:
    """Asks MLflow for the last values of a run's metrics, by a thread: one that hangs holds nobody up.

    Metrics of runs that the code opened besides count where the run itself has none of their name.

    Args:
        variables: `MLFLOW_TRACKING_URI` and `MLFLOW_RUN_ID` of the run; without them nobody is asked.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._uri = variables.get("MLFLOW_TRACKING_URI")
        self._run_id = variables.get("MLFLOW_RUN_ID", "")
        self._known: dict[str, tuple[int, int, float]] = {}  # step, time in ms, value
        self._found: dict[str, tuple[int, float]] = {}
        self._since_ms = time.time() * 1000  # what is older is of an earlier attempt
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="metrics of own code", daemon=True)

    def __enter__(self) -> Self:
        if self._uri:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, with what was logged last."""
        self._ended.set()
        if self._uri:
            self._thread.join(_LAST_S)

    def new(self) -> list[Point]:
        """The last point of each metric that changed since the last call; never waits."""
        with self._lock:
            found, self._found = self._found, {}
        return [(name, step, value) for name, (step, value) in found.items()]

    def _work(self) -> None:
        pause_s = EVERY_S
        while not self._ended.wait(pause_s):
            began = time.monotonic()
            self._ask()
            pause_s = max(EVERY_S, (time.monotonic() - began) / _SHARE)
        self._ask()

    def _ask(self) -> None:
        from mlflow import MlflowClient

        try:
            client = MlflowClient(self._uri)
            own = {one.key: one for one in client.get_run(self._run_id).data._metric_objs}  # with their steps
            metrics = (opened_metrics(client, self._run_id) | own).values()
        except Exception:  # MLflow's, requests', urllib3's: it is asked again
            return
        with self._lock:
            for metric in metrics:
                point = (metric.step, metric.timestamp, metric.value)
                if metric.key.startswith(SYSTEM_PREFIX) or metric.timestamp < self._since_ms:
                    continue
                if self._known.get(metric.key) == point:
                    continue
                self._known[metric.key] = point
                # MLflow's databases keep infinity as the largest number.
                largest = abs(metric.value) == sys.float_info.max
                self._found[metric.key] = (
                    metric.step,
                    math.copysign(math.inf, metric.value) if largest else metric.value,
                )
