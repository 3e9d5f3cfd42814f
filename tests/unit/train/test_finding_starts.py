"""What a training may start from, by its kind, and that the digest stands for all of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotAllowed, NotFound
from tasks.refs import RunRef
from tasks.train import kept_models
from tasks.train.algorithms.fit import FitContext
from tasks.train.config import TrainConfig
from tasks.train.start import Start, find_start
from tasks.train.tags import BUNDLE_DIGEST_TAG, MODEL_URI_TAG
from tasks.train.train import train
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.striped import fit_striped
from tests.helpers.trained import iris_dataset

NOWHERE = MlflowClient("http://127.0.0.1:9")
"""For paths MLflow is not asked."""


def _find(path: Path, tmp_path: Path, *, own: bool = False, roots: list[str] | None = None) -> Start:
    return find_start(str(path), NOWHERE, tmp_path / "models", roots, for_own_code=own)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of a network's training, with its checkpoints."""
    folder = tmp_path_factory.mktemp("work")
    fit_striped(context=FitContext(work_folder=folder), epochs=1)
    return folder


def test_a_folder_of_our_checkpoints_is_a_start_and_so_is_the_one_above(work: Path, tmp_path: Path) -> None:
    found = _find(work / "checkpoints", tmp_path)
    assert found == _find(work, tmp_path)
    assert found.path == work / "checkpoints"
    fit_striped(context=FitContext(start_from=found.path), epochs=1)  # and it can be started from
    copy = shutil.copytree(found.path, tmp_path / "copy")
    assert _find(copy, tmp_path).digest == found.digest
    newest = max(copy.iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    assert _find(copy, tmp_path).digest != found.digest


def test_the_digest_of_pretrained_weights_is_of_every_file_that_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "pretrained"
    folder.mkdir()
    names = ["config.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"]
    for name in names:
        (folder / name).write_text(name)
    (folder / "README.md").write_text("not read")
    digests = {_find(folder, tmp_path).digest}
    for name in names:
        (folder / name).write_text("other")
        digests.add(_find(folder, tmp_path).digest)
    assert len(digests) == 1 + len(names)
    (folder / "README.md").unlink()
    assert _find(folder, tmp_path).digest in digests


def test_own_code_starts_from_any_folder_or_file(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "step-3").mkdir(parents=True)
    (folder / "step-3" / "weights.bin").write_bytes(b"1")
    found = _find(folder, tmp_path, own=True)
    assert found.path == folder
    (folder / "step-3" / "weights.bin").write_bytes(b"2")
    assert _find(folder, tmp_path, own=True).digest != found.digest
    file = folder / "step-3" / "weights.bin"
    assert _find(file, tmp_path, own=True).path == file
    with pytest.raises(InvalidSettings, match=r"No weights are in the folder.*our checkpoints"):
        _find(folder, tmp_path)
    with pytest.raises(NotFound):
        _find(tmp_path / "nothing", tmp_path, own=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidSettings, match="has no files"):
        _find(tmp_path / "empty", tmp_path, own=True)


def test_links_do_not_lead_out_of_what_may_be_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "open"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(NotAllowed):
        _find(folder, tmp_path, own=True, roots=[str(folder)])
    (folder / "weights.bin").unlink()
    (folder / "below").symlink_to(tmp_path)
    with pytest.raises(InvalidSettings, match="holds a link to a folder, below"):
        _find(folder, tmp_path, own=True, roots=[str(tmp_path)])


@pytest.fixture(scope="module")
def trained(mlflow_process: MlflowProcess, tmp_path_factory: pytest.TempPathFactory) -> RunRef:
    """A network, as MLflow has it."""
    folder = tmp_path_factory.mktemp("trained")
    store = DatasetStore(str(folder / "store"))
    config = TrainConfig(algorithm="mlp", hyperparameters={"epochs": 1})
    return train(iris_dataset(store), config, store, mlflow_process.client(), folder / "work")


def test_runs_are_starts_by_their_kind(
    trained: RunRef, mlflow_process: MlflowProcess, tmp_path: Path
) -> None:
    client = mlflow_process.client()
    network = find_start(trained.run_id, client, tmp_path, None)
    assert network.path.name == "weights.safetensors"
    code = find_start(trained.run_id, client, tmp_path, None, for_own_code=True)
    assert (code.path, code.digest) == (network.path.parent, trained.digest)
    assert not kept_models.remove_unused(code.path)  # this process may read it yet

    # Own code whose model cannot be served leaves its files beside the run.
    made = client.create_run(client.get_run(trained.run_id).info.experiment_id)
    saved = tmp_path / "model"
    saved.mkdir()
    np.save(saved / "weights.npy", np.arange(3))
    client.log_artifacts(made.info.run_id, str(tmp_path / "model"), "model")
    tags = client.get_run(trained.run_id).data.tags
    for name, value in {**tags, MODEL_URI_TAG: "", BUNDLE_DIGEST_TAG: "d" * 64}.items():
        if name.startswith("trainyard."):
            client.set_tag(made.info.run_id, name, value)
    own = find_start(made.info.run_id, client, tmp_path / "models", None, for_own_code=True)
    assert own.digest == "d" * 64
    assert np.load(own.path / "weights.npy").tolist() == [0, 1, 2]
    assert not kept_models.remove_unused(own.path)
    for given in (trained.run_id, trained.model_uri, made.info.run_id):  # fetched by those who see iris
        for code_asks in (False, True):
            with pytest.raises(NotFound, match=f"MLflow has no (run|model) {given}"):
                find_start(
                    given, client, tmp_path, None, for_own_code=code_asks, hides=lambda name: name == "iris"
                )
    with pytest.raises(InvalidSettings, match="cannot be served"):
        find_start(made.info.run_id, client, tmp_path / "models", None)
    with pytest.raises(NotFound):
        find_start("0" * 32, client, tmp_path, None, for_own_code=True)
