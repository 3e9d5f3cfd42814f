from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from tasks.data import arrays, memory
from tasks.errors import Unavailable
from tasks.train.own_code.config import Limits
from tasks.train.own_code.process import memory_bytes
from tasks.train.resources import host

HOLD = """
import sys
from tasks.data import arrays
arrays.LARGEST_SHARE = 0.0
held = arrays.empty_array((3, 1000, 1000), "uint8")
held[:] = 7
print("held", flush=True)
sys.stdin.read()
"""


def test_small_arrays_are_in_memory() -> None:
    assert not isinstance(arrays.empty_array((2, 3), np.uint8), np.memmap)


def test_large_arrays_are_mapped_and_work_like_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path))
    monkeypatch.setattr(arrays, "LARGEST_SHARE", 0.0)
    array = arrays.empty_array((5, 4), np.uint8)
    assert isinstance(array, np.memmap)
    array[:] = np.arange(20).reshape(5, 4)
    assert array[[3, 1]].tolist() == [[12, 13, 14, 15], [4, 5, 6, 7]]


def test_nothing_is_left_of_a_mapped_array_after_a_kill(tmp_path: Path) -> None:
    environment = {**os.environ, "TRAINYARD_HOME": str(tmp_path), "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert list((tmp_path / "scratch").iterdir()) == []
        os.kill(process.pid, signal.SIGKILL)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_fits_nowhere_is_refused_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path))
    with pytest.raises(Unavailable, match=r"The rows take 1,048,576\.0 GiB.*free memory"):
        arrays.empty_array((2**20, 2**30), np.uint8)


@pytest.mark.parametrize(
    ("limit", "used", "none"),
    [
        ("memory.max", "memory.current", "max"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", str(2**63 - 4096)),
    ],
    ids=["version 2", "version 1"],
)
def test_a_containers_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, used: str, none: str
) -> None:
    installed = psutil.virtual_memory().total
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    assert memory.installed_memory_bytes() == installed
    assert memory.free_memory_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    (tmp_path / "memory").mkdir()
    (tmp_path / used).write_text("60\n")
    (tmp_path / limit).write_text(f"{none}\n")
    assert memory.installed_memory_bytes() == installed
    assert memory.free_memory_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    (tmp_path / limit).write_text("100\n")
    assert memory.installed_memory_bytes() == 100
    assert memory.free_memory_bytes() == 40
    assert host().memory_gib == 100 / 2**30
    assert memory_bytes(Limits()) == 80
