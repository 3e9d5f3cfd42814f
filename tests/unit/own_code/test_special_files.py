"""Pipes, sockets and devices in folders of own code: whoever opens one may wait for ever, so nobody does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tasks.errors import InvalidSettings
from tasks.refs import DatasetRef
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.own_code import OwnCodeFit
from tasks.train.own_code.saved_model import NotServed, find_saved
from tasks.train.start import find_start

pytestmark = pytest.mark.timeout(120)  # instead of for ever

PIPES = """
import os, socket
for name, file in (("TENSORBOARD_LOG", "x.tfevents"), ("MODEL", "label_names.json"), ("CHECKPOINT", "pipe")):
    os.mkfifo(os.path.join(os.environ[f"EM_{name}_DIR"], file))
open(os.environ["EM_CHECKPOINT_DIR"] + "/epoch-1", "w").write("x")
open(os.environ["EM_MODEL_DIR"] + "/model.onnx", "w").write("x")
os.chdir(os.environ["EM_MODEL_DIR"])
socket.socket(socket.AF_UNIX).bind("socket")
"""


def test_a_training_that_leaves_them_everywhere(
    train: Callable[..., OwnCodeFit], measures: DatasetRef, script: Callable[..., OwnCode]
) -> None:
    fit = train(script(PIPES), measures)
    assert fit.note.startswith("label_names.json, socket: a pipe, a socket or a device")
    files = sorted(
        path.relative_to(fit.artifacts).as_posix() for path in fit.artifacts.rglob("*") if path.is_file()
    )
    assert files == ["model/model.onnx", "own_code/output.log"]
    # Tried again, it is given the checkpoints that are files.
    again = (
        PIPES.replace("os.mkfifo", "os.path.exists")
        + "print(os.listdir(os.environ['EM_CHECKPOINT_INPUT_DIR']))"
    )
    said: list[str] = []
    train(script(again), measures, log=said.append)
    assert "['epoch-1']" in said


@pytest.mark.parametrize("name", ["label_names.json", "MLmodel", "more/x.bin"])
@pytest.mark.parametrize("linked", [False, True])
def test_they_are_no_model(tmp_path: Path, name: str, linked: bool) -> None:
    path = tmp_path / "model" / name
    path.parent.mkdir(parents=True)
    (tmp_path / "model" / "model.onnx").write_bytes(b"x")
    if linked:
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    with pytest.raises(NotServed, match=f"^{name}: a pipe, a socket or a device"):
        find_saved(tmp_path / "model")


def test_a_link_does_not_lead_out_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    os.mkfifo(tmp_path / "elsewhere" / "label_names.json")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "model" / "MLmodel").write_text("flavors: {onnx: {data: there}}")
    with pytest.raises(NotServed, match="MLmodel points outside of its folder"):
        find_saved(tmp_path / "model")


def test_they_are_nothing_to_start_from(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    client = MlflowClient(f"sqlite:///{tmp_path}/never-asked.db")
    with pytest.raises(InvalidSettings, match="pipe is no file, but a pipe, a socket or a device"):
        find_start(str(tmp_path / "pipe"), client, tmp_path / "models", None)
