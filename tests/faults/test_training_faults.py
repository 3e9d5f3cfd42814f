"""A training killed again and again at moments of chance ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.train.algorithms.fit import FitContext
from tests.helpers.striped import EVERYTHING, fit_striped

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
KILLS = 12
EPOCHS = 30


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param(EVERYTHING, id="everything-with-sgd"),
        pytest.param({**EVERYTHING, "optimizer": "adamw"}, id="everything-with-adamw"),
    ],
)
def test_killed_at_random_steps_and_while_writing(changes: dict[str, Any], tmp_path: Path) -> None:
    changes = {**changes, "epochs": EPOCHS}
    unbroken = fit_striped(context=FitContext(seed=3), **changes)
    unbroken.model.save(tmp_path / "unbroken.safetensors")

    chance = random.Random(len(changes))
    work, weights = tmp_path / "work", tmp_path / "resumed.safetensors"
    command = [sys.executable, "-m", "tests.helpers.striped", work, weights, "", json.dumps(changes)]
    kills, firsts = 0, []
    while not weights.exists():
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        lines = chance.randint(1, 20) if kills < KILLS else None
        assert process.stdout is not None
        for number, line in enumerate(process.stdout, start=1):
            if number == 1:
                firsts.append(line.strip())
            if number == lines:  # it goes on while the signal is under way: at a step, or in a write
                process.kill()
                kills += 1
                break
        process.stdout.close()
        assert process.wait(timeout=120) in (0, -9)
    assert kills > KILLS / 2  # it may be done before the last of them: it runs on while a signal is under way
    assert len(set(firsts)) > KILLS / 3  # it did go on, from other steps
    assert weights.read_bytes() == (tmp_path / "unbroken.safetensors").read_bytes()
    assert len(list((work / "checkpoints").iterdir())) == 2
