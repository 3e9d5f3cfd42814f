"""The caretaker's care for the log that all flow runs append to, and for work folders."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

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
