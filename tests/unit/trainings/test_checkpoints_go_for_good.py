"""Deletion for good finds checkpoints where the user put them, or says that it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.data.storage.store import DatasetStore
from tasks.removal import deletion
from tasks.train.config import TrainConfig
from tasks.train.train import earlier_run, train
from tasks.train.work_folder import CHECKPOINTS, drop, note_finished
from tasks.trainings import records
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.trained import iris_dataset


@pytest.mark.parametrize("stopped", [False, True])
def test_kept_checkpoints_are_found_and_deleted(
    stopped: bool, mlflow_process: MlflowProcess, tmp_path: Path
) -> None:
    client, store = mlflow_process.client(), DatasetStore(str(tmp_path / "store"))
    share, work = tmp_path / "share", tmp_path / "home"
    config = TrainConfig(
        algorithm="mlp", hyperparameters={"epochs": 1}, checkpoint_folder=str(share), experiment="gone"
    )
    folder = share / "0123456789abcdef01234567"
    folder.mkdir(parents=True)
    run = train(iris_dataset(store), config, store, client, folder)
    if stopped:
        drop(folder, keep_checkpoints=True)
    else:
        note_finished(folder, run, keep_checkpoints=True)
    assert list((folder / CHECKPOINTS).iterdir())
    assert earlier_run(client, folder) is None  # training again makes a run of its own
    others = share / "other"
    others.mkdir()
    (others / "kept.json").write_text('{"run_id": "another"}')

    what = deletion.doomed(client, records.read(client, run.run_id), work)
    assert (what.folders, what.elsewhere) == ((folder,), ())
    assert f"checkpoints in {folder}" in deletion.listing(what, for_good=True)
    for start in (run.run_id, run.model_uri, f"file://{folder}", str(folder / CHECKPOINTS / "1")):
        assert what.gives(start)
    for start in ("", "1" * 32, "models:/iris@champion", str(share), f"{folder}-other", str(others)):
        assert not what.gives(start)
    deletion.delete(client, what, "ada", for_good=True)
    assert not folder.exists()
    assert others.exists()


def test_checkpoints_that_are_not_found_are_told(mlflow_process: MlflowProcess, tmp_path: Path) -> None:
    client, store = mlflow_process.client(), DatasetStore(str(tmp_path / "store"))
    share = tmp_path / "share"
    config = TrainConfig(algorithm="logistic_regression", checkpoint_folder=str(share), experiment="gone")
    run = train(iris_dataset(store), config, store, client, tmp_path / "work")
    what = deletion.doomed(client, records.read(client, run.run_id), tmp_path / "home")
    assert (what.folders, what.elsewhere) == ((), (str(share),))
    told = [line for line in deletion.listing(what, for_good=True) if line.startswith("not deleted")]
    assert told == [
        f"not deleted: checkpoints in {share}, where none is known to be of this training; look there"
    ]
    assert not any("checkpoints" in line for line in deletion.listing(what, for_good=False))
