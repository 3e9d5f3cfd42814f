"""How fast two ranks train, against two processes that do not talk to each other: what this machine can give.

    pytest -m benchmark tests/benchmarks/test_rank_throughput.py -s

ResNet-18 at 150 px, batches of 16 a rank, by our own loop, one thread a rank; the sides take turns.
Horovod is compared as well with `horovodrun` on the same loop, which leaves all to Horovod's defaults.
TRAINYARD_BENCHMARK_ROUNDS=1 and TRAINYARD_BENCHMARK_SHARE=0.1 make a quick trial.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tasks.train.ranks.horovod import CYCLE_TIME_MS
from tests.helpers.rank_sides import Order, Speed, alone, launched, started
from tests.helpers.side_by_side import in_turn, ratio

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("TRAINYARD_BENCHMARK_ROUNDS", "3"))
STEPS = max(1, int(10 * float(os.environ.get("TRAINYARD_BENCHMARK_SHARE", "1"))))

SETTINGS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "torch, parts of 4 MiB": ("torch", {}, {}),
    "torch, parts of 25 MiB": ("torch", {}, {"part_mib": 25.0}),
    "torch, one part": ("torch", {}, {"part_mib": 1024.0}),
    "torch, float16": ("torch", {}, {"changes": {"gradient_compression": "float16"}}),
    **{
        f"horovod, cycle {time_ms} ms": ("horovod", {"HOROVOD_CYCLE_TIME": time_ms}, {})
        for time_ms in ("1", "5", "10", "20")
    },
    "horovod, no fusion": ("horovod", {"HOROVOD_CYCLE_TIME": "5", "HOROVOD_FUSION_THRESHOLD": "0"}, {}),
    "horovod, parts of 25 MiB": ("horovod", {"HOROVOD_CYCLE_TIME": "5"}, {"part_mib": 25.0}),
    "horovod, one part": ("horovod", {"HOROVOD_CYCLE_TIME": "5"}, {"part_mib": 1024.0}),
    "horovod, float16": (
        "horovod",
        {"HOROVOD_CYCLE_TIME": "5"},
        {"changes": {"gradient_compression": "float16"}},
    ),
}
"""Library, its variables, and changes of the order; our defaults are among them."""
OURS = {"torch": "torch, parts of 4 MiB", "horovod": f"horovod, cycle {CYCLE_TIME_MS} ms"}
AS_GOOD = 0.95


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_two_ranks_are_nearly_as_fast_as_two_processes(precision: str, tmp_path: Path) -> None:
    order = Order(outcome=str(tmp_path / "rates.json"), changes={"precision": precision}, steps=STEPS)
    sides = {
        "alone": lambda: alone(order),
        "torch": lambda: launched(order, "torch"),
        "horovod": lambda: launched(order, "horovod"),
        "horovodrun": lambda: started(order, "horovod"),
    }
    speeds = in_turn(sides, ROUNDS)
    rates = {side: [one.rows_per_s for one in of_side] for side, of_side in speeds.items()}
    spared = {side: [one.rows_per_cpu_s for one in of_side] for side, of_side in speeds.items()}
    for side in sides:
        middle, of_cpu = statistics.median(rates[side]), statistics.median(spared[side])
        print(f"\n{precision}, {side}: {middle:,.1f} images/s, {of_cpu:,.1f} a second of both processors")
    what = f"images/s of two ranks, ResNet-18 at 150 px, batches of 16, {precision}"
    by_torch = ratio(f"{what}, torch", rates["torch"], rates["alone"], 0.9)
    ratio(f"{what}, horovod", rates["horovod"], rates["alone"], None)
    by_horovod = ratio(f"{what}, horovod against horovodrun", rates["horovod"], rates["horovodrun"], 0.97)
    for side in ("torch", "horovod", "horovodrun"):
        ratio(f"the same, a second of processor time, {side}", spared[side], spared["alone"], None)
    assert by_torch >= 0.9
    assert by_horovod >= 0.97


def test_our_settings_are_as_good_as_any(tmp_path: Path) -> None:
    order = Order(outcome=str(tmp_path / "rates.json"), steps=STEPS)

    def side(library: str, variables: dict[str, str], changes: dict[str, Any]) -> Speed:
        return started(replace(order, **changes), library, variables)

    speeds = in_turn({name: partial(side, *how) for name, how in SETTINGS.items()}, ROUNDS)
    for library, default in OURS.items():
        for name in (one for one in SETTINGS if one.startswith(library)):
            of = {key: [one.rows_per_s for one in speeds[key]] for key in (name, default)}
            ratio(f"{name}, against our setting", of[name], of[default], None)
            spared = [statistics.median(one.rows_per_cpu_s for one in speeds[key]) for key in (name, default)]
            print(f"a second of processor time {spared[0] / spared[1]:.3f} ×")
            assert statistics.median(of[default]) >= AS_GOOD * statistics.median(of[name]), name
