"""The caretaker's care for the log that all flow runs append to, and for work folders."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from filelock import FileLock

from infra.settings import Settings
from infra.stack.caretaker import keep_small, sweep_work
from tasks.train import kept_models

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_large_log_is_started_anew_under_its_writers(tmp_path: Path) -> None:
    log = tmp_path / "flows.log"
    assert keep_small(log) is False
    with log.open("a") as writer:
        writer.write("x" * 100)
        writer.flush()
        assert keep_small(log, most_bytes=100) is False
        assert keep_small(log, most_bytes=99) is True
        writer.write("new")
    assert log.read_text() == "new"
    assert (tmp_path / "flows.log.1").read_text() == "x" * 100


def test_only_work_folders_that_nothing_touched_for_a_week_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    work, scratch = tmp_path / "home" / "work" / "train", tmp_path / "tmp"
    old, resumed, study, other = work / "old", work / "resumed", scratch / "trainyard-study-1", scratch / "x"
    last_month = time.time() - 30 * 24 * 3600
    for folder in (old, resumed, study, other):
        folder.mkdir(parents=True)
        (folder / "checkpoint").touch()
        if folder != resumed:
            os.utime(folder / "checkpoint", (last_month, last_month))
        os.utime(folder, (last_month, last_month))
    assert set(sweep_work(Settings(home=tmp_path / "home"))) == {old, study}
    assert (resumed.is_dir(), other.is_dir()) == (True, True)
    assert not old.exists()


def test_files_beside_work_folders_go_too_and_what_is_locked_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    work, pictures = tmp_path / "work" / "train", tmp_path / "docs" / "pictures"
    slow, dead = work / "slow", work / "dead"
    for folder in (slow, dead, pictures):
        folder.mkdir(parents=True)
    stale = [work / "dead.lock", work / "a.json", work / "a.partial", pictures / "live-1.svg", dead]
    kept = [work / "slow.lock", work / "new.json", pictures / "live-2.svg", pictures / "curves.svg", slow]
    last_month = time.time() - 30 * 24 * 3600
    for path in (*stale, *kept):
        if not path.is_dir():
            path.touch()
    with FileLock(work / "slow.lock"):
        for path in (*stale, kept[0], kept[3], slow):
            os.utime(path, (last_month, last_month))
        swept = sweep_work(Settings(home=tmp_path))
    assert "was left" not in capsys.readouterr().out
    assert not [path for path in stale if path.exists()]
    assert [path for path in kept if path.exists()] == kept
    assert set(swept) >= set(stale) - {work / "dead.lock"}
    assert {path.name for path in work.iterdir()} == {"slow", "slow.lock", "new.json"}


def test_models_go_a_week_after_they_were_taken_and_not_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    models = tmp_path / "work" / "models"
    stale, killed, used, read = (models / name for name in ("m-1", ".partial-1", "run-2", "m-3"))
    last_month = time.time() - 30 * 24 * 3600
    for folder in (stale, killed, used, read):
        folder.mkdir(parents=True)
        (folder / "weights").touch()
        for path in (folder / "weights", folder):
            os.utime(path, (last_month, last_month))
    elsewhere = "import sys; from pathlib import Path; from tasks.train import kept_models as kept\n"
    elsewhere += "assert kept.take(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", elsewhere, str(used)], cwd=REPOSITORY, check=True, timeout=60)
    assert kept_models.take(read)
    os.utime(read, (last_month, last_month))  # a process that reads for long
    assert set(sweep_work(Settings(home=tmp_path))) == {stale, killed}
    assert {path.name for path in models.iterdir()} == {"run-2", "m-3"}
    assert (read / "weights").exists()
    os.utime(used, (last_month, last_month))
    assert sweep_work(Settings(home=tmp_path)) == [used]  # whoever took it has ended


def test_a_model_that_is_taken_away_meanwhile_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "m-1"
    kept.mkdir()
    monkeypatch.setattr(fcntl, "flock", lambda *_: kept_models.remove(kept))  # while it waits for the lock
    assert not kept_models.take(kept)
    assert not list(tmp_path.iterdir())
