"""A training that was killed goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tasks.errors import InvalidSettings, NotFound
from tasks.train.algorithms.fit import FitContext
from tasks.train.loop.callbacks import checkpoints
from tests.helpers.striped import EVERYTHING, fit_striped, striped

ROOT = Path(__file__).resolve().parents[3]


def _start(work: Path, weights: Path, wait_at: str, changes: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.helpers.striped", work, weights, wait_at, json.dumps(changes)]
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("changes", "killed_at", "goes_on_with"),
    [
        pytest.param({}, "epoch 4", 25, id="after-an-epoch"),
        pytest.param(EVERYTHING, "step 17", 17, id="within-an-epoch-with-everything"),
        pytest.param({**EVERYTHING, "optimizer": "adamw"}, "step 36", 36, id="at-the-last-step"),
    ],
)
def test_killed_and_run_again_it_ends_with_the_same_weights(
    changes: dict[str, Any], killed_at: str, goes_on_with: int, tmp_path: Path
) -> None:
    unbroken = fit_striped(context=FitContext(seed=3), **changes)
    unbroken.model.save(tmp_path / "unbroken.safetensors")

    work, weights = tmp_path / "work", tmp_path / "resumed.safetensors"
    with _start(work, weights, killed_at, changes) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if line.strip() == killed_at:
                os.kill(first.pid, signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    assert not weights.exists()

    with _start(work, weights, "", changes) as second:
        told, _ = second.communicate()
    assert second.returncode == 0
    steps = [int(line.split()[1]) for line in told.splitlines() if line.startswith("step")]
    assert steps == list(range(goes_on_with, 37))
    assert load_file(weights).keys() == load_file(tmp_path / "unbroken.safetensors").keys()
    assert weights.read_bytes() == (tmp_path / "unbroken.safetensors").read_bytes()


def _epochs_run(work: Path, **changes: object) -> list[int]:
    heard: list[int] = []
    seed = int(str(changes.pop("seed", 3)))
    fit_striped(
        context=FitContext(seed=seed, work_folder=work, report=lambda epoch, *_: heard.append(epoch)),
        **changes,
    )
    return heard


def _forge(content: bytes, folder: Path) -> None:
    """A file whose digest is right, under the name of a checkpoint newer than all."""
    digest = hashlib.sha256(content).hexdigest()[:16]
    (folder / f"epoch-000099-step-000000000-{digest}.safetensors").write_bytes(content)


def test_torn_and_foreign_checkpoints_are_passed_over(tmp_path: Path) -> None:
    assert _epochs_run(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert _epochs_run(tmp_path) == []
    folder = tmp_path / "checkpoints"
    newest = max(folder.iterdir())
    whole = newest.read_bytes()
    newest.write_bytes(whole[:-100])
    assert _epochs_run(tmp_path) == [6]

    _forge(b"not a safetensors file", folder)
    save_file({"weight": np.zeros(3)}, tmp_path / "other.safetensors")
    _forge((tmp_path / "other.safetensors").read_bytes(), folder)
    assert _epochs_run(tmp_path) == []

    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:50])
    assert _epochs_run(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_checkpoints_of_another_fit_are_not_used(tmp_path: Path) -> None:
    _epochs_run(tmp_path)
    every = [1, 2, 3, 4, 5, 6]
    assert _epochs_run(tmp_path, seed=4) == every
    assert _epochs_run(tmp_path, seed=4, learning_rate=0.002) == every
    assert _epochs_run(tmp_path, seed=4, learning_rate=0.002, mixup=0.1) == every
    assert _epochs_run(tmp_path, seed=4, learning_rate=0.002, mixup=0.1) == []


def test_what_another_fit_left_further_on_does_not_push_out_the_first_checkpoint(tmp_path: Path) -> None:
    """A short fit in the folder of a long one can still be resumed."""
    _epochs_run(tmp_path, epochs=9)
    assert _epochs_run(tmp_path, epochs=2) == [1, 2]
    assert _epochs_run(tmp_path, epochs=2) == []


def test_another_start_is_another_fit(tmp_path: Path) -> None:
    first = fit_striped(context=FitContext(seed=3, work_folder=tmp_path / "first"))
    start = tmp_path / "first" / "checkpoints"

    heard: list[int] = []
    context = FitContext(
        seed=3, work_folder=tmp_path / "second", report=lambda epoch, *_: heard.append(epoch)
    )
    fit_striped(context=context, epochs=1)
    warm = fit_striped(context=FitContext(**{**vars(context), "start_from": start}), epochs=1)
    assert heard == [1, 1]
    assert warm.history[0]["train_loss"] < 0.7 * first.history[0]["train_loss"]


def test_the_best_weights_of_a_checkpoint_are_a_start(tmp_path: Path) -> None:
    fit = fit_striped(context=FitContext(seed=3, work_folder=tmp_path))
    newest = max((tmp_path / "checkpoints").iterdir())
    for start in (newest, newest.parent):
        # A rate of nearly nothing, and no decay: the model is the start.
        settings = {"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0.0}
        same = fit_striped(context=FitContext(start_from=start), **settings)
        images = striped().train.inputs
        learned = [name for name, _ in same.model.network.named_parameters()]  # type: ignore[attr-defined]
        fit.model.save(tmp_path / "fit.safetensors")
        same.model.save(tmp_path / "same.safetensors")
        one, other = (load_file(tmp_path / f"{name}.safetensors") for name in ("fit", "same"))
        for name in learned:
            np.testing.assert_allclose(one[name], other[name], atol=1e-6)
        assert same.model.predict(images).shape == (96, 3)


def test_a_start_that_does_not_fit_is_refused_in_words(tmp_path: Path) -> None:
    fit_striped(context=FitContext(work_folder=tmp_path), epochs=1)
    folder = tmp_path / "checkpoints"
    with pytest.raises(
        InvalidSettings, match=r"another network: \d+ of \d+ tensors differ, first '0.weight'"
    ):
        fit_striped(context=FitContext(start_from=folder), epochs=1, width=8)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(NotFound, match="no whole checkpoint to start from"):
        fit_striped(context=FitContext(start_from=path), epochs=1)


def test_checkpoints_within_an_epoch_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fit_striped(**EVERYTHING)
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    monkeypatch.setattr(checkpoints, "LARGEST_SHARE", float("inf"))
    kept = fit_striped(context=FitContext(work_folder=tmp_path), **EVERYTHING)
    timings = {"epoch_time_s", "rows_per_s"}
    for one, other in zip(plain.history, kept.history, strict=True):
        assert {k: v for k, v in one.items() if k not in timings} == {
            k: v for k, v in other.items() if k not in timings
        }
