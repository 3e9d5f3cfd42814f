from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.train.algorithms.algorithm import FitContext
from tests.helpers.striped import fit_striped

ROOT = Path(__file__).resolve().parents[3]


def _start(work: Path, weights: Path, stop_after: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.helpers.striped", str(work), str(weights), str(stop_after)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("killed_after", [1, 4])
def test_killed_and_run_again_it_ends_with_the_same_weights(killed_after: int, tmp_path: Path) -> None:
    unbroken = fit_striped(context=FitContext(seed=3))
    unbroken.model.save(tmp_path / "unbroken.safetensors")

    work, weights = tmp_path / "work", tmp_path / "resumed.safetensors"
    with _start(work, weights, killed_after) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if line.strip() == f"epoch {killed_after}":
                os.kill(first.pid, signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    assert not weights.exists()

    with _start(work, weights, 0) as second:
        told, _ = second.communicate()
    assert second.returncode == 0
    assert told.split("\n")[0] == f"epoch {killed_after + 1}"
    assert weights.read_bytes() == (tmp_path / "unbroken.safetensors").read_bytes()


def _epochs_run(work: Path, **changes: object) -> list[int]:
    heard: list[int] = []
    seed = int(str(changes.pop("seed", 3)))
    fit_striped(
        context=FitContext(seed=seed, work_folder=work, report=lambda epoch, *_: heard.append(epoch)),
        **changes,
    )
    return heard


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    assert _epochs_run(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert _epochs_run(tmp_path) == []
    newest = max((tmp_path / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    assert _epochs_run(tmp_path) == [6]


def test_checkpoints_of_another_fit_are_not_used(tmp_path: Path) -> None:
    _epochs_run(tmp_path)
    assert _epochs_run(tmp_path, seed=4) == [1, 2, 3, 4, 5, 6]
    assert _epochs_run(tmp_path, seed=4, learning_rate=0.002) == [1, 2, 3, 4, 5, 6]
