"""Metrics on their way to MLflow: taken in no time, sent by a thread of its own, none of them lost.

A fit must not wait for a server. What is put here lies in memory until the thread has sent it; where MLflow
is slow or away for a while, it waits, and goes when MLflow answers again or, at the latest, at the end. What
MLflow refuses for what it is, such as for its name, is left out with a warning, and keeps nothing else back.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

SEND_EVERY_S = 2.0
LONGEST_PAUSE_S = 15.0
"""Between two tries while MLflow does not answer."""
MOST_METRICS = 1000
"""Metrics that MLflow takes in one call."""
MOST_WAITING = 20_000
"""Puts that wait at most, some 10 MB; beyond, every second one is left out: a curve only gets coarser."""

Send = Callable[[list[Metric]], object]

_log = logging.getLogger(__name__)


class MetricStream:
    """A queue of metrics and the thread that empties it; the thread starts with the first metric.

    Args:
        send: Brings up to `MOST_METRICS` metrics to MLflow, or raises. Called by one thread at a time.
        every_s: Seconds between two calls of it.
        most_waiting: Puts that are kept while they cannot be sent.
    """

    def __init__(self, send: Send, every_s: float = SEND_EVERY_S, most_waiting: int = MOST_WAITING) -> None:
        self._send = send
        self._every_s = every_s
        self._most_waiting = most_waiting
        self._waiting: deque[tuple[int, int, dict[str, float]]] = deque()  # time in ms, step, values
        self._on_the_way: list[Metric] = []
        self._refused: set[str] = set()  # names of metrics that MLflow does not take
        self._lock = threading.Lock()  # held for moments: the queue
        self._sending = threading.Lock()  # held while MLflow answers
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, values: Mapping[str, float], step: int) -> None:
        """Take the metrics of one step; never waits for MLflow."""
        with self._lock:
            self._waiting.append((int(time.time() * 1000), step, dict(values)))
            if len(self._waiting) > self._most_waiting:
                self._thin()
            if self._thread is None:
                work = contextvars.copy_context().run  # what is refused is said in the log of the flow run
                self._thread = threading.Thread(
                    target=work, args=(self._work,), name="metrics to MLflow", daemon=True
                )
                self._thread.start()

    def _thin(self) -> None:
        """Leave out every second one that waits, of those with the same names: they may come in turn."""
        kept: deque[tuple[int, int, dict[str, float]]] = deque()
        left_out: set[tuple[str, ...]] = set()
        for one in reversed(self._waiting):  # the newest of each stays
            names = tuple(one[2])
            if names not in left_out:
                kept.appendleft(one)
            left_out ^= {names}
        self._waiting = kept

    def flush(self) -> None:
        """Send everything now, and return when MLflow has it.

        Raises:
            MlflowException: MLflow does not answer, after its client has tried for minutes, or lacks the run.
        """
        with self._sending:
            while self._next():
                self._bring()

    def close(self, patience_s: float) -> None:
        """End the thread; what is left is sent if MLflow answers within the time, and no error is raised."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(patience_s)

    def _work(self) -> None:
        pause_s = self._every_s
        while not self._closed.wait(pause_s):
            pause_s = self._every_s if self._try() else min(pause_s * 2, LONGEST_PAUSE_S)
        self._try()

    def _try(self) -> bool:
        try:
            self.flush()
        except Exception:  # MLflow's, requests', urllib3's: the metrics stay here until the next try
            return False
        return True

    def _bring(self) -> None:
        """Send what is on the way; where MLflow refuses it, in smaller parts, to leave out only the fault."""
        count = MOST_METRICS
        while self._on_the_way:
            part = self._on_the_way[:count]
            try:
                self._send(part)
                count *= 2
            except MlflowException as error:
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                if len(part) > 1:
                    count = len(part) // 2
                    continue
                _log.warning("MLflow refuses the metric %r, which is left out: %s", part[0].key, error)
                self._refused.add(part[0].key)
                self._on_the_way = [one for one in self._on_the_way if one.key not in self._refused]
                continue
            del self._on_the_way[: len(part)]

    def _next(self) -> bool:
        """Take as many waiting metrics as go together; False where there are none."""
        with self._lock:
            while self._waiting and len(self._on_the_way) + len(self._waiting[0][2]) <= MOST_METRICS:
                time_ms, step, values = self._waiting.popleft()
                self._on_the_way += [
                    Metric(name, value, time_ms, step)
                    for name, value in values.items()
                    if name not in self._refused
                ]
        return bool(self._on_the_way)
