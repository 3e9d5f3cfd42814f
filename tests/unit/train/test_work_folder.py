"""The work folder leaves what is not its own alone."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.refs import DatasetRef, Problem, RunRef
from tasks.train.work_folder import FINISHED_KEPT_S, note_finished


def test_old_results_go_and_files_of_the_user_stay(tmp_path: Path) -> None:
    dataset = DatasetRef(
        name="iris", version="20261121-120000-abcdef", url="/store/iris", digest="0" * 64,
        problem=Problem.TABLE_CLASSIFICATION, rows=150,
    )  # fmt: skip
    run = RunRef(
        run_id="a" * 32, experiment="default", model_uri="models:/m-1", digest="1" * 64, algorithm="mlp",
        dataset=dataset,
    )  # fmt: skip
    old, users = tmp_path / f"{'ab' * 12}.json", tmp_path / "settings.json"
    for path in (old, users):
        path.write_text("{}")
        long_ago = path.stat().st_mtime - 2 * FINISHED_KEPT_S
        os.utime(path, (long_ago, long_ago))
    folder = tmp_path / ("cd" * 12)
    folder.mkdir()
    note_finished(folder, run, keep_checkpoints=True)
    assert users.is_file()
    assert not old.exists()
    assert folder.with_suffix(".json").is_file()
