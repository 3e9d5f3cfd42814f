"""Own code that misbehaves: its run ends in words, and no process and no file of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.data.config import IngestConfig
from tasks.data.ingest import ingest
from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef, Problem
from tasks.train.algorithms.fit import FitContext
from tasks.train.own_code import following, process, taking
from tasks.train.own_code.config import Limits, OwnCode
from tasks.train.own_code.outcome import OwnCodeFailed, OwnCodeStopped
from tasks.train.own_code.own_code import OwnCodeFit, fit_own_code
from tasks.train.own_code.patterns import MetricPattern
from tasks.train.own_code.process import Program, run
from tasks.train.own_code.source import SourceAccess
from tests.helpers.bad_graphs import SAVE_GRAPH, endless, huge

pytestmark = pytest.mark.faults

SAVE = """
import os, shutil, sys, time, signal
def save():
    open(os.environ["EM_MODEL_DIR"] + "/notes.txt", "w").write("x")
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetStore:
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "home"))
    return DatasetStore(str(tmp_path / "store"))


@pytest.fixture
def rows(tmp_path: Path, store: DatasetStore) -> DatasetRef:
    lines = "\n".join(f"{n},{n % 7},{'ab'[n % 2]}" for n in range(40))
    (tmp_path / "rows.csv").write_text(f"x,y,label\n{lines}\n")
    config = IngestConfig(
        source=str(tmp_path / "rows.csv"), name="rows", problem=Problem.TABLE_CLASSIFICATION
    )
    return ingest(config, store)


@pytest.fixture(params=["namespaces", "descent"])
def train(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    store: DatasetStore,
    rows: DatasetRef,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., OwnCodeFit]:
    """Trains by a script, with namespaces of the kernel and without."""
    from tasks.train.own_code import own_code

    def kept(*given: Any) -> process.Ending:
        return run(*given, namespaces=request.param == "namespaces")

    monkeypatch.setattr(own_code, "run", kept)
    monkeypatch.setattr(taking, "run", kept)

    def fit(content: str, context: FitContext | None = None, **settings: Any) -> OwnCodeFit:
        (tmp_path / "code").mkdir(exist_ok=True)
        (tmp_path / "code" / "train.py").write_text(SAVE + content)
        own = OwnCode(source=str(tmp_path / "code"), **settings)
        context = replace(context or FitContext(), work_folder=tmp_path / "work")
        try:
            return fit_own_code(own, {}, rows, store, SourceAccess(), context, tmp_path / "bundle")
        finally:
            assert left(tmp_path) == []
            assert sorted(path.name for path in (tmp_path / "work" / "own_code").iterdir()) == [
                "artifacts",
                "checkpoints",
            ]

    return fit


def left(folder: Path) -> list[str]:
    """Processes that know the folder, by their environment or command."""
    found = []
    for one in psutil.process_iter():
        try:
            words = [*one.cmdline(), *one.environ().values()]
        except psutil.Error:
            continue
        if one.pid != os.getpid() and any(word.startswith(f"{folder}/work") for word in words):
            found.append(" ".join(one.cmdline()))
    return found


def gone(folder: Path, within_s: float = 30) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not left(folder):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("content", "settings", "cause"),
    [
        ("sys.exit(3)", {}, "The code ended with exit code 3."),
        ("import absent_module", {}, "The code ended with exit code 1: ModuleNotFoundError: No module"),
        ("1 / 0", {}, "The code ended with exit code 1: ZeroDivisionError: division by zero."),
        ("os.kill(os.getpid(), 11)", {}, "The code was ended by SIGSEGV."),
        (
            "for _ in range(50_000): print('x' * 100)\nraise KeyError('the very end')",
            {},
            "The code ended with exit code 1: KeyError: 'the very end'.",
        ),
        ("print('done')", {}, "The code saved no model: EM_MODEL_DIR is empty."),
        (
            "while True: print('x' * 1000)",
            {"limits": Limits(output_mib=1)},
            "The code wrote more than the 1 MiB of output allowed.",
        ),
        (
            "held = [b'x' * 2**20 for _ in range(2000)]; time.sleep(60)",
            {"limits": Limits(memory_gib=0.25)},
            "The code used more than the 0.25 GiB of memory allowed.",
        ),
        (
            "for _ in range(8):\n  if not os.fork(): held = b'x' * 2**27; time.sleep(60)\ntime.sleep(60)",
            {"limits": Limits(memory_gib=0.5)},
            "The code used more than the 0.5 GiB of memory allowed.",
        ),
        (
            "while True:\n  try: os.fork()\n  except OSError: pass",
            {"limits": Limits(processes=40)},
            "The code had more than the 40 processes allowed.",
        ),
        (
            "f = open(os.environ['TMPDIR'] + '/f', 'wb')\nwhile 1: f.write(b'x' * 2**20); time.sleep(0.01)",
            {"limits": Limits(disk_gib=0.02)},
            "The code wrote more than the 0.02 GiB of files allowed.",
        ),
        (
            "save(); print('loss 1.0', 'loss nan', sep='\\n'); time.sleep(60)",
            {"metrics": {"loss": {"pattern": r"loss (\S+)", "sample_line": "loss 1"}}},
            "The metric loss is nan at step 2",
        ),
        (
            "save(); print('accuracy is good')",
            {"metrics": {"accuracy": {"pattern": r"accuracy (\d\S*)", "sample_line": "accuracy 1"}}},
            "The code never reported the metric accuracy.",
        ),
        ("save()", {"required_metrics": ("f1",)}, "The code never reported the metric f1."),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_goes_wrong_is_said_first(
    train: Callable[..., OwnCodeFit], content: str, settings: dict[str, Any], cause: str
) -> None:
    with pytest.raises(OwnCodeFailed) as caught:
        train(content, **settings)
    assert str(caught.value).startswith(cause)
    assert caught.value.artifacts is not None
    assert (caught.value.artifacts / "own_code" / "output.log").is_file()


def test_slow_patterns_do_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Past the bound they are not tried any more, and the last lines are heard all the same."""
    monkeypatch.setattr(following, "PATTERNS_S", 0.0)
    slow = MetricPattern(pattern=r"v=.*.*.*(\d+)!", sample_line="v=111!")
    said: list[str] = []
    follower = following.Follower(
        OwnCode(source="/code", metrics={"v": slow}), tmp_path, said.append, lambda step, metrics: None
    )
    began = time.monotonic()
    follower(b"".join([b"v=" + 60 * b"1" + b"\n"] * 20_000) + b"KeyError: the end\n")
    assert time.monotonic() - began < 10
    assert follower.lines[-1] == "KeyError: the end"
    assert any("take too long" in line for line in said)


DAEMONS = """
for way in range(6):
    if os.fork() == 0:
        if way > 0: os.setsid()
        if way > 1 and os.fork(): os._exit(0)
        if way > 2:
            for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)
        if way > 3: os.execve("/bin/sleep", ["sleep", "300"], {"MARK": os.environ["EM_MODEL_DIR"]})
        if way > 4: os.closerange(0, 100)
        time.sleep(300)
time.sleep(0.2)
"""


def test_daemons_go_with_the_code(train: Callable[..., OwnCodeFit]) -> None:
    assert train(DAEMONS + "save()").ended == "finished"


def test_a_stop_that_is_ignored(train: Callable[..., OwnCodeFit]) -> None:
    asked = time.monotonic() + 1.5
    content = "signal.signal(15, signal.SIG_IGN)\nwhile True: time.sleep(1)"
    with pytest.raises(OwnCodeFailed, match=r"^The code was stopped, and the code saved no model") as caught:
        train(
            DAEMONS + content,
            FitContext(should_stop=lambda: time.monotonic() > asked),
            limits=Limits(stop_grace_s=1),
        )
    assert "did not end by itself" in str(caught.value)


def test_a_stop_keeps_what_was_saved(train: Callable[..., OwnCodeFit]) -> None:
    content = """
def end(*given):
    save(); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True: time.sleep(1)
"""
    fit = train(content, FitContext(max_time_s=2))
    assert fit.ended == "time limit"
    assert (fit.artifacts / "model" / "notes.txt").is_file()


def test_a_time_limit_without_a_model(train: Callable[..., OwnCodeFit]) -> None:
    with pytest.raises(OwnCodeFailed, match=r"^The code took longer than the 1 s allowed, and"):
        train("time.sleep(60)", FitContext(max_time_s=1))


@pytest.mark.parametrize(
    ("model", "limits", "cause"),
    [
        (endless, Limits(trial_time_s=5), "The saved model gave no answer within 5 s."),
        (huge, Limits(memory_gib=0.5), "The saved model used more than the 1 GiB of memory allowed."),
    ],
    ids=["endless loop", "huge tensor"],
)
def test_a_saved_model_that_cannot_be_tried(
    train: Callable[..., OwnCodeFit],
    tmp_path: Path,
    model: Callable[[Path], None],
    limits: Limits,
    cause: str,
) -> None:
    """The flow's process neither hangs nor grows; the model's files are kept with the run."""
    model(tmp_path / "code" / "model.onnx")
    with pytest.raises(OwnCodeFailed) as caught:
        train(SAVE_GRAPH, limits=limits)
    assert str(caught.value).startswith(cause)
    assert caught.value.artifacts is not None
    assert (caught.value.artifacts / "model" / "model.onnx").is_file()
    assert not (tmp_path / "bundle").exists()


def test_a_stop_while_a_saved_model_is_tried(
    train: Callable[..., OwnCodeFit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "STOPPED_S", 0.5)
    endless(tmp_path / "code" / "model.onnx")
    trial = tmp_path / "work" / "own_code" / "scratch" / "trial"
    with pytest.raises(OwnCodeStopped, match=r"^The training was stopped before its model had answered"):
        train(SAVE_GRAPH, FitContext(should_stop=trial.exists))


PARENT = """
import sys
from pathlib import Path
from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef
from tasks.train.algorithms.fit import FitContext
from tasks.train.own_code import own_code
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.source import SourceAccess
from tests.helpers.bad_graphs import SAVE_GRAPH, endless, huge
folder, namespaces = Path(sys.argv[1]), sys.argv[2] == "namespaces"
run = own_code.run
own_code.run = lambda *given: run(*given, namespaces=namespaces)
own_code.fit_own_code(
    OwnCode(source=str(folder / "code")), {}, DatasetRef.model_validate_json(sys.argv[3]),
    DatasetStore(str(folder / "store")), SourceAccess(), FitContext(work_folder=folder / "work"),
    folder / "bundle",
)
"""


@pytest.mark.parametrize("way", ["namespaces", "descent"])
@pytest.mark.parametrize("victim", ["flow process", "keeper"])
def test_kill_9_from_outside(tmp_path: Path, rows: DatasetRef, way: str, victim: str) -> None:
    """Of the flow process: all goes. Of the keeper: at least where there are namespaces."""
    alone = (way, victim) == ("descent", "keeper")  # nobody is left who could know daemons
    ready = tmp_path / "work" / "own_code" / "checkpoints" / "ready"
    (tmp_path / "code").mkdir()
    wait = "open(os.environ['EM_CHECKPOINT_DIR'] + '/ready', 'w').close()\ntime.sleep(300)"
    (tmp_path / "code" / "train.py").write_text(SAVE + ("" if alone else DAEMONS) + wait)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), way, rows.model_dump_json()],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 90
        while not ready.exists():
            assert parent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(left(tmp_path)) > (1 if alone else 5)
        if victim == "keeper":
            (keeper,) = [
                one
                for one in psutil.Process(parent.pid).children()
                if "own_code.keeper" in str(one.cmdline())
            ]
            keeper.kill()
            assert parent.wait(30) != 0
        else:
            os.kill(parent.pid, signal.SIGKILL)
            parent.wait(10)
        assert gone(tmp_path)
        deadline = time.monotonic() + 20
        scratch = tmp_path / "work" / "own_code" / "scratch"
        while scratch.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not scratch.exists()
    finally:
        parent.kill()
        parent.wait()


def test_the_code_cannot_end_its_keeper(tmp_path: Path) -> None:
    """In namespaces it sees neither the keeper nor anybody else."""
    (tmp_path / "out").touch()
    program = Program(
        command=[sys.executable, "-c", "import os; print(os.getppid(), sorted(os.listdir('/proc'))[:3])"],
        environment={},
        folder=tmp_path,
        log=tmp_path / "out",
        scratch=tmp_path / "scratch",
        remove=[],
        written_to=[],
        limits=Limits(),
    )
    ending = run(program, lambda new: None, lambda: False)
    assert ending.separate
    assert ending.code == 0
    assert (tmp_path / "out").read_text().startswith("1 ['1', '2'")
