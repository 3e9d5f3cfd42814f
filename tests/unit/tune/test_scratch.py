from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_killed_process_s_folder_goes_at_the_next_start_and_a_living_one_s_stays(tmp_path: Path) -> None:
    parent = tmp_path / "search"
    command = [sys.executable, "-c", SCRIPT, str(parent)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        with scratch_folder(parent, "flow") as mine:
            assert mine.name.startswith("flow-")
            assert (left / "checkpoint").exists()
        assert not mine.exists()
        os.kill(other.pid, signal.SIGKILL)
    with scratch_folder(parent, "flow") as mine:
        assert sorted(path.name for path in parent.iterdir()) == [mine.name, f"{mine.name}.lock"]
    assert list(parent.iterdir()) == []


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), scratch_folder(tmp_path, "flow"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
