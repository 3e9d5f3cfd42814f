"""The caretaker's care for the log that all flow runs append to, and for work folders."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from filelock import FileLock

from infra.settings import Settings
from infra.stack.caretaker import keep_small, sweep_work


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
