"""Counts and latencies of an endpoint in Prometheus' form.

BentoML's own request metrics carry the path of each request as a label, so that a client who asks for
made-up paths makes the process grow; these have labels of few values.
"""

from __future__ import annotations

import os

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The counters of one worker; `render` adds up all workers of the endpoint.

    Args:
        endpoint: The endpoint's name.
        model: The registered model's name.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, endpoint: str, model: str) -> None:
        self._own = CollectorRegistry()
        self._endpoint, self._model = endpoint, model
        self._requests = Counter(
            "trainyard_endpoint_requests",
            "Answered requests.",
            ["endpoint", "model", "version", "form", "status"],
            registry=self._own,
        )
        self._seconds = Histogram(
            "trainyard_endpoint_request_seconds",
            "Time from a request's arrival to its answer.",
            ["endpoint", "model", "version", "form"],
            buckets=BUCKETS_S,
            registry=self._own,
        )
        self._rows = Counter(
            "trainyard_endpoint_instances",
            "Inputs that were asked for.",
            ["endpoint", "model", "version"],
            registry=self._own,
        )

    def count(self, *, form: str, status: int, version: int | None, seconds: float, rows: int) -> None:
        """Take one answered request into account."""
        number = "none" if version is None else str(version)
        self._requests.labels(self._endpoint, self._model, number, form, str(status)).inc()
        self._seconds.labels(self._endpoint, self._model, number, form).observe(seconds)
        if rows:
            self._rows.labels(self._endpoint, self._model, number).inc(rows)

    def render(self) -> bytes:
        """The page; with several workers the sum over all of them."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return bytes(generate_latest(self._own))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return bytes(generate_latest(registry))
