"""The host's charts go on when one of its numbers cannot be had."""

from __future__ import annotations

import logging
from typing import Any

import psutil
import pytest

from tasks.train import system_metrics
from tasks.train.system_metrics import SystemMetrics
from tests.helpers.serving_stack import wait_until


@pytest.mark.parametrize("works", [0, 2], ids=["from the beginning", "later"])
def test_what_cannot_be_sampled_is_dropped_alone_and_said_once(
    works: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    count, calls = psutil.net_io_counters, 0

    def fails(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > works:
            raise OSError("no such device")
        return count(*given, **named)

    monkeypatch.setattr(psutil, "net_io_counters", fails)
    monkeypatch.setattr(system_metrics, "SHORTEST_PAUSE_S", 0.01)
    samples: dict[int, dict[str, float]] = {}
    host = SystemMetrics(samples.__setitem__, first=7)
    host.start()
    try:
        wait_until(lambda: len(samples) >= 4)
    finally:
        host.stop()
    assert list(samples) == list(range(7, 7 + len(samples)))
    # Of two calls that work, the first is for the numbers to begin with.
    assert [number for number in samples if "system/network_receive_megabytes" in samples[number]] == [7][
        :works
    ]
    others = {f"system/{name}" for name in ("cpu_utilization_percentage", "disk_usage_percentage")}
    assert all(others < values.keys() for values in samples.values())
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(said) == 1
    assert "The network is not charted" in said[0]
    assert "no such device" in said[0]
