from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.errors import Unavailable
from tasks.tune.scratch import scratch_folder

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from pathlib import Path
from tasks.tune.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), "other") as folder:
    (folder / "checkpoint").write_text("half a gigabyte")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_there_for_the_next_attempt_alone(tmp_path: Path) -> None:
    parent = tmp_path / "search"
    command = [sys.executable, "-c", SCRIPT, str(parent)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        with scratch_folder(parent, "flow") as mine:
            assert mine == parent / "flow"
        with pytest.raises(Unavailable, match="Another process works"), scratch_folder(parent, "other", 0.1):
            pass
        os.kill(other.pid, signal.SIGKILL)
    with scratch_folder(parent, "flow"):
        pass
    with scratch_folder(parent, "other") as again:
        assert again == left
        assert (again / "checkpoint").exists()
    assert list(parent.iterdir()) == []


def test_an_error_leaves_it_for_the_next_attempt(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_folder(tmp_path, "flow") as folder:
            (folder / "checkpoint").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with scratch_folder(tmp_path, "flow") as folder:
        assert (folder / "checkpoint").exists()
    assert list(tmp_path.iterdir()) == []
