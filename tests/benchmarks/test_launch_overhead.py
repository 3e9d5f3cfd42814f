"""What our launch of ranks costs, against `torchrun` and `horovodrun` on the same script.

    pytest -m benchmark tests/benchmarks/test_launch_overhead.py -s

The Dask workers of our side run already. All sides have the same variables and one thread a rank, and
take turns.
TRAINYARD_BENCHMARK_ROUNDS=1 and TRAINYARD_BENCHMARK_SHARE=0.1 make a quick trial.
"""

from __future__ import annotations

import json
import os
import runpy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tasks.train.ranks import launcher
from tasks.train.ranks.gang import Gang, launch
from tasks.train.ranks.rank import Rank
from tests.helpers.ranks_started import ENVIRONMENT, STARTERS, two_workers
from tests.helpers.side_by_side import in_turn, ratio

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("TRAINYARD_BENCHMARK_ROUNDS", "5"))
STEPS = int(1_000 * float(os.environ.get("TRAINYARD_BENCHMARK_SHARE", "1")))
SCRIPT = Path(__file__).parents[1] / "assets" / "ranks" / "steady_steps.py"
LEAST_SPEED = 0.97
MOST_LATER_S = 3.0


@dataclass(frozen=True)
class Outcome:
    """How a side did.

    Attributes:
        start_s: From the call to the end of the first step.
        steps_per_s: Of the steps after it.
    """

    start_s: float
    steps_per_s: float


def timed(start: Callable[[], object], told: Path) -> Outcome:
    """Start it, and read what its rank 0 told."""
    told.unlink(missing_ok=True)
    called_at = time.time()
    start()
    outcome = json.loads(told.read_text())
    assert outcome["threads"] == 1
    return Outcome(outcome["first_step_at"] - called_at, outcome["steps_per_s"])


def script(arguments: list[str], rank: Rank) -> None:
    """Run the script in the process of a rank."""
    sys.argv = [str(SCRIPT), *arguments]
    runpy.run_path(str(SCRIPT), run_name="__main__")


@pytest.mark.parametrize("name", ["torch", "horovod"])
def test_launching_costs_little(name: str, tmp_path: Path) -> None:
    told = tmp_path / "outcome.json"
    arguments = [name, str(told), str(STEPS)]
    gang = Gang(2, launcher.get(name), threads=1)

    def ours() -> Outcome:
        with two_workers() as client:  # they are not there while the other side runs
            return timed(lambda: launch(partial(script, arguments), gang, client, joined=False), told)

    def theirs() -> Outcome:
        command = [*STARTERS[name], str(SCRIPT), *arguments]
        return timed(lambda: subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True), told)

    outcomes = in_turn({"ours": ours, "theirs": theirs}, ROUNDS)
    own, other = outcomes["ours"], outcomes["theirs"]
    later_s = [a.start_s - b.start_s for a, b in zip(own, other, strict=True)]
    for side, of_side in outcomes.items():
        start_s = statistics.median(one.start_s for one in of_side)
        rate = statistics.median(one.steps_per_s for one in of_side)
        print(f"\n{name}, {side}: first step after {start_s:.2f} s, {rate:,.0f} steps/s")
    print(
        f"\n| {name}: first step later by | {statistics.median(later_s):+.2f} s "
        f"| {min(later_s):+.2f} to {max(later_s):+.2f} | at most {MOST_LATER_S:g} s |"
    )
    speed = ratio(
        f"{name}: steps a second",
        [one.steps_per_s for one in own],
        [one.steps_per_s for one in other],
        LEAST_SPEED,
    )
    assert statistics.median(later_s) <= MOST_LATER_S
    assert speed >= LEAST_SPEED
