"""A stop or a time limit keeps the model that the code saved; without one the run is aborted, not failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from mlflow import MlflowClient

from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef
from tasks.train.algorithms.fit import FitContext
from tasks.train.config import TrainConfig
from tasks.train.own_code import own_code, taking
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.outcome import OwnCodeFailed, OwnCodeStopped
from tasks.train.own_code.own_code import OwnCodeFit
from tasks.train.own_code.process import Ending, Program, run
from tasks.train.own_code.source import SourceAccess
from tasks.train.own_code.trainer import OwnCodeTrainer
from tasks.train.resources import Resources
from tasks.train.tags import STATUS_TAG
from tasks.train.train import train as train_tracked
from tasks.train.work_folder import KEPT_FILE, RUN_FILE, drop
from tests.helpers.bad_graphs import SAVE_GRAPH, endless

SAVE = "import os, time; open(os.environ['EM_MODEL_DIR'] + '/notes.txt', 'w').write('x')\n"
F1 = {"f1": {"pattern": r"f1 (\S+)", "sample_line": "f1 0.5"}}


@pytest.mark.parametrize("ended", ["stopped", "time limit"])
def test_what_would_have_said_its_metrics_at_its_end_keeps_its_model(
    train: Callable[..., OwnCodeFit], measures: DatasetRef, script: Callable[..., OwnCode], ended: str
) -> None:
    own = script(SAVE + "print('saved', flush=True)\ntime.sleep(60); print('f1 0.9')", metrics=F1)
    said: list[str] = []
    stopped = FitContext(should_stop=lambda: "saved" in said)
    fit = train(
        own, measures, log=said.append, context=stopped if ended == "stopped" else FitContext(max_time_s=2)
    )
    assert fit.ended == ended
    assert (fit.artifacts / "model" / "notes.txt").is_file()


def test_a_saved_model_that_never_answers_ends_the_training(
    train: Callable[..., OwnCodeFit], measures: DatasetRef, script: Callable[..., OwnCode], tmp_path: Path
) -> None:
    endless(tmp_path / "code" / "model.onnx", columns=4)
    own = script(SAVE_GRAPH, limits={"trial_time_s": 4})
    with pytest.raises(OwnCodeFailed, match=r"^The saved model gave no answer within 4 s\.") as caught:
        train(own, measures)
    assert caught.value.artifacts is not None
    assert (caught.value.artifacts / "model" / "model.onnx").is_file()
    assert not (tmp_path / "work" / "own_code" / "scratch").exists()
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(one.info["cmdline"])]


def test_the_time_that_the_code_takes_to_end_is_not_there_for_the_trial_of_its_model(
    train: Callable[..., OwnCodeFit],
    measures: DatasetRef,
    script: Callable[..., OwnCode],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One clock runs from the stop; and the model is tried on fewer rows then."""
    late: list[bool] = []
    rows: list[int] = []

    def watched(program: Program, follow: Callable[[bytes], None], should_stop: Callable[[], bool]) -> Ending:
        late.append(should_stop())
        rows.extend(len(np.load(path)) for path in Path(program.command[-1]).glob("*.npy"))
        return run(program, follow, should_stop)

    monkeypatch.setattr(taking, "run", watched)
    monkeypatch.setattr(taking, "STOPPED_S", 0.5)
    monkeypatch.setattr(taking, "STOPPED_ROWS", 7)
    endless(tmp_path / "code" / "model.onnx", columns=4)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    wait = "print('saved', flush=True); time.sleep(60)"
    own = script(stubborn + SAVE_GRAPH + wait, limits={"stop_grace_s": 1})
    said: list[str] = []
    with pytest.raises(OwnCodeStopped, match=r"^The training was stopped before its model had answered"):
        train(own, measures, log=said.append, context=FitContext(should_stop=lambda: "saved" in said))
    assert late == [True]
    assert rows == [7, 7]


def test_checkpoints_stay_where_the_user_chose_their_place(
    train: Callable[..., OwnCodeFit], measures: DatasetRef, script: Callable[..., OwnCode], tmp_path: Path
) -> None:
    own = script(SAVE + "open(os.environ['EM_CHECKPOINT_DIR'] + '/epoch-1', 'w').write('x')")
    train(own, measures)
    work = tmp_path / "work"
    (work / RUN_FILE).write_text('{"run_id": "r"}')
    drop(work, keep_checkpoints=True)
    files = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())
    assert files == [KEPT_FILE, "own_code/checkpoints/epoch-1"]
    said: list[str] = []
    train(own, measures, log=said.append)
    assert any("given as EM_CHECKPOINT_INPUT_DIR" in line for line in said)
    drop(work, keep_checkpoints=False)
    assert not work.exists()


@pytest.mark.parametrize(
    ("stopped", "status", "state"), [(True, "aborted", "KILLED"), (False, "failed", "FAILED")]
)
def test_the_run_of_code_without_a_model(
    store: DatasetStore,
    measures: DatasetRef,
    script: Callable[..., OwnCode],
    tmp_path: Path,
    stopped: bool,
    status: str,
    state: str,
) -> None:
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.create_experiment("own", artifact_location=str(tmp_path / "artifacts"))
    own = script("print('ready', flush=True)\n" + ("import time; time.sleep(60)" if stopped else "1 / 0"))
    config = TrainConfig(own_code=own, experiment="own")
    said: list[str] = []
    trainer = OwnCodeTrainer.of(measures, config, store, SourceAccess(), Resources(), said.append)
    began = time.monotonic()
    with pytest.raises(OwnCodeFailed):
        train_tracked(
            measures,
            config,
            store,
            client,
            tmp_path / "work",
            lambda *progress: None,
            trainer=trainer,
            should_stop=lambda: stopped and "ready" in said,
        )
    assert time.monotonic() - began < 50
    (run,) = client.search_runs([client.get_experiment_by_name("own").experiment_id])
    assert run.data.tags[STATUS_TAG] == status
    assert run.info.status == state
    assert [one.path for one in client.list_artifacts(run.info.run_id, "own_code")] == ["own_code/output.log"]


def test_the_output_is_kept_whatever_goes_wrong_afterwards(
    store: DatasetStore,
    measures: DatasetRef,
    script: Callable[..., OwnCode],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here the disk is full when the model's bundle is to be written."""

    def full(*given: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(own_code, "take_model", full)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.create_experiment("own", artifact_location=str(tmp_path / "artifacts"))
    config = TrainConfig(own_code=script(SAVE), experiment="own")
    trainer = OwnCodeTrainer.of(measures, config, store, SourceAccess(), Resources())
    with pytest.raises(OSError, match="No space left"):
        train_tracked(measures, config, store, client, tmp_path / "work", trainer=trainer)
    (run,) = client.search_runs([client.get_experiment_by_name("own").experiment_id])
    assert run.info.status == "FAILED"
    assert [one.path for one in client.list_artifacts(run.info.run_id, "own_code")] == ["own_code/output.log"]
