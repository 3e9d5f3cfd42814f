"""Scripts written for other platforms run as they are, and their models predict like built-ins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.data.read import read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData
from tasks.refs import DatasetRef
from tasks.train.algorithms.fit import FitContext
from tasks.train.bundle import Bundle
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.own_code import OwnCodeFit

ASSETS = Path(__file__).parents[2] / "assets" / "own_code"
Train = Callable[..., OwnCodeFit]

ACCURACY = {"pattern": r"epoch (\d+) accuracy: ([\d.]+)", "sample_line": "epoch 1 accuracy: 0.9"}


def test_a_scikit_learn_pipeline_with_words_in_its_columns(
    train: Train, flowers: DatasetRef, store: DatasetStore
) -> None:
    steps: list[tuple[int, dict[str, float]]] = []
    own = OwnCode(source=str(ASSETS / "table_skops"), metrics={"accuracy": ACCURACY})
    fit = train(
        own, flowers, {"n_estimators": 20},
        context=FitContext(report_steps=lambda step, metrics: steps.append((step, metrics))),
    )  # fmt: skip

    assert fit.ended == "finished"
    assert fit.bundle is not None
    assert fit.bundle.description.model.format == "own-skops"
    assert fit.metrics["validation_accuracy"] > 0.9
    # What the script printed of its own model is what the bundle scores from raw rows.
    assert steps == [(1, {"accuracy": pytest.approx(fit.metrics["validation_accuracy"])})]
    raw = read_raw_rows(store, flowers, "validation")
    assert raw.table is not None
    assert fit.bundle.predict_table(raw.table.iloc[:3]).shape == (3, 3)
    assert (fit.artifacts / "own_code" / "output.log").read_text().startswith("epoch 1 accuracy")


def test_lightgbm_with_labels_numbered_by_itself(train: Train, measures: DatasetRef) -> None:
    fit = train(OwnCode(source=str(ASSETS / "table_lightgbm")), measures, {"num_boost_round": 10})
    assert fit.bundle is not None
    assert fit.bundle.description.model.format == "own-lightgbm"
    assert fit.metrics["validation_accuracy"] > 0.9


def test_pytorch_with_tensorboard_and_onnx(train: Train, squares: DatasetRef, store: DatasetStore) -> None:
    seen: dict[tuple[str, int], float] = {}
    shown: list[tuple[int, int, dict[str, float]]] = []
    own = OwnCode(source=str(ASSETS / "image_onnx"))
    fit = train(
        own, squares, {"learning_rate": 0.05, "num_train_epochs": 6},
        context=FitContext(
            report=lambda *standing: shown.append(standing),
            report_steps=lambda step, metrics: seen.update({(name, step): v for name, v in metrics.items()}),
        ),
    )  # fmt: skip
    assert fit.bundle is not None
    assert fit.metrics["validation_accuracy"] > 0.9
    assert [step for name, step in seen if name == "train/loss"] == [1, 2, 3, 4, 5, 6]
    # The live view hears of each step, and at the end of the model's own scores.
    assert [(step, steps) for step, steps, metrics in shown if "train/loss" in metrics] == [
        (step, 0) for step in range(1, 7)
    ]
    assert shown[-1][2]["validation_accuracy"] == fit.metrics["validation_accuracy"]
    assert list((fit.artifacts / "tensorboard").glob("*tfevents*"))

    # The bundle answers pictures of any size, as PyTorch does on those of the script.
    raw = read_raw_rows(store, squares, "validation")
    assert raw.images is not None
    small = fit.bundle.predict_images(raw.images)
    assert small.argmax(axis=1).tolist() == raw.labels.tolist()
    assert np.allclose(small.sum(axis=1), 1, atol=1e-5)


def test_an_export_to_onnx_with_torchs_own_defaults(
    train: Train, squares: DatasetRef, script: Callable[..., OwnCode]
) -> None:
    own = script(
        """
import os, torch
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 3)).eval()
path = os.path.join(os.environ["EM_MODEL_DIR"], "model.onnx")
torch.onnx.export(network, (torch.zeros(1, 3, 16, 16),), path)
"""
    )
    said: list[str] = []
    fit = train(own, squares, log=said.append)
    assert fit.bundle is not None, fit.note
    assert fit.bundle.description.model.format == "onnx"
    # Nothing says how pixels became numbers in the code: what is taken for it is told.
    assert fit.guessed == "no preprocessor_config.json: the model is fed 16×16 pixels, times 1/255"
    assert any(fit.guessed in line for line in said)


def test_transformers_trainer_and_its_processor(train: Train, squares: DatasetRef) -> None:
    own = OwnCode(source=str(ASSETS / "image_transformers"))
    fit = train(
        own, squares, {"learning_rate": 0.01, "num_train_epochs": 15, "per_device_train_batch_size": 12}
    )
    assert fit.bundle is not None
    assert fit.bundle.description.model.format == "transformers"
    assert fit.guessed == ""
    assert fit.metrics["validation_accuracy"] > 0.8
    assert Bundle.load(fit.artifacts.parents[2] / "bundle").digest == fit.digest


def test_a_killed_attempt_goes_on_from_its_checkpoint(
    train: Train, squares: DatasetRef, tmp_path: Path
) -> None:
    own = OwnCode(source=str(ASSETS / "image_onnx"))
    work = tmp_path / "work"
    said: list[str] = []

    def killed(step: int, metrics: dict[str, float]) -> None:
        raise KeyboardInterrupt  # as Prefect's cancellation arrives

    with pytest.raises(KeyboardInterrupt):
        train(
            own, squares, {"num_train_epochs": 500}, context=FitContext(report_steps=killed, work_folder=work)
        )
    assert not (work / "own_code" / "scratch").exists()
    fit = train(own, squares, {"num_train_epochs": 3}, context=FitContext(work_folder=work), log=said.append)
    assert fit.bundle is not None
    assert any(line.startswith("going on from epoch") for line in said)


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[..., OwnCode]:
    """A notebook of these code cells, after a word in Markdown."""
    import nbformat

    def write(*cells: str) -> OwnCode:
        made = nbformat.v4.new_notebook(
            cells=[
                nbformat.v4.new_markdown_cell("# A training"),
                *(nbformat.v4.new_code_cell(cell) for cell in cells),
            ],
            metadata={"kernelspec": {"language": "python", "name": "python3", "display_name": "Python 3"}},
        )
        folder = tmp_path / "notebooks"
        folder.mkdir(exist_ok=True)
        nbformat.write(made, folder / "explore.ipynb")
        return OwnCode(source=str(folder), entry_point="explore.ipynb")

    return write


def test_a_notebook_means_what_it_does_in_jupyter(
    train: Train, measures: DatasetRef, notebook: Callable[..., OwnCode]
) -> None:
    script = (ASSETS / "table_lightgbm" / "train.py").read_text()
    own = notebook(
        "%matplotlib inline\n!pip install nothing-at-all\n%pip install nothing\nfiles = !ls\nprint(files)",
        "",
        "%%writefile helper.py\ndef f():\n    return 'from the helper'",
        "from helper import f\nf()",
        "import asyncio, pandas as pd\nawait asyncio.sleep(0)\ndisplay(pd.DataFrame({'column': [1]}))",
        'P = """Is it?\n%d rows\n"""\nprint(P)\nprint(\n "acc %.3f"\n % 0.5\n)',
        "%%bash\necho $((40 + 2)) of bash",
        "%time x = 7 % 2\n!echo x is {x}",
        script,
    )
    fit = train(own, measures, {"num_boost_round": 5})
    assert fit.bundle is not None
    said = (fit.artifacts / "own_code" / "output.log").read_text()
    for expected in (
        "Left out: pip install nothing-at-all",
        "Left out: pip install nothing (",
        "['explore.ipynb']",
        "'from the helper'",
        "column",
        "Is it?\n%d rows\n",
        "acc 0.500",
        "42 of bash",
        "x is 1",
    ):
        assert expected in said
    assert "\x1b" not in said


def test_a_fault_in_a_notebook_is_said_with_cell_and_line(
    train: Train, measures: DatasetRef, notebook: Callable[..., OwnCode]
) -> None:
    with pytest.raises(InvalidData, match="ValueError: bad") as failed:
        train(
            notebook("x = 1", "", "def g():\n    raise ValueError('bad')", "g()", "print('after')"), measures
        )
    assert "Cell In[3], line 1" in failed.value.where
    assert "Cell In[2], line 2" in failed.value.where
    assert "after" not in failed.value.where

    with pytest.raises(InvalidData, match="exit code 1: ZeroDivisionError"):
        train(notebook("%%capture\n1 / 0"), measures)

    with pytest.raises(InvalidData, match="syntax error") as refused:
        train(notebook("!ls", "x = 1\ny = (2"), measures)
    assert "explore.ipynb, cell 2, line 2" in refused.value.where
    with pytest.raises(InvalidData, match="no_such_module") as refused:
        train(notebook("!ls", "x = 1\nimport no_such_module"), measures)
    assert "explore.ipynb, cell 2, line 2" in refused.value.where


def test_an_entry_point_with_relative_imports_is_run_as_a_module_of_its_package(
    train: Train, measures: DatasetRef, tmp_path: Path
) -> None:
    files = {
        "trainer/task.py": "import os, sys\nfrom .nets import model\nfrom .nets.model import make\nmake()\n"
        "print(__package__, sys.argv[1:])\n",
        "trainer/__init__.py": "",
        "trainer/nets/model.py": "import os\nfrom ..names import NAME\n"
        "make = lambda: open(os.path.join(os.environ['EM_MODEL_DIR'], NAME), 'w').write('x')\n",
        "trainer/names.py": "NAME = 'notes.txt'\n",
    }
    for name, text in files.items():
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    own = OwnCode(source=str(tmp_path / "code"), entry_point="trainer/task.py")
    fit = train(own, measures, {"rate": 1})
    assert (fit.artifacts / "model" / "notes.txt").is_file()
    assert "trainer ['--rate', '1']" in (fit.artifacts / "own_code" / "output.log").read_text()

    with pytest.raises(InvalidData, match="relative to a package") as refused:
        train(OwnCode(source=str(tmp_path / "code" / "trainer"), entry_point="task.py"), measures)
    assert "folder above" in refused.value.mend
    (tmp_path / "code" / "trainer" / "names.py").write_text("import no_such_module")
    with pytest.raises(InvalidData, match="no_such_module") as refused:
        train(own, measures)
    assert "trainer/names.py, line 1" in refused.value.where


def test_a_model_that_cannot_be_served_is_kept_and_said_why(
    train: Train, measures: DatasetRef, script: Callable[..., OwnCode]
) -> None:
    own = script("import os, pickle\npickle.dump(1, open(os.environ['EM_MODEL_DIR'] + '/model.pkl', 'wb'))")
    said: list[str] = []
    fit = train(own, measures, log=said.append)
    assert fit.bundle is None
    assert "pickle" in fit.note
    assert fit.ended == "finished"
    assert (fit.artifacts / "model" / "model.pkl").is_file()
    assert any("cannot be served" in line for line in said)


def test_the_environment_of_the_code(
    train: Train,
    measures: DatasetRef,
    script: Callable[..., OwnCode],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "secret-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-2")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret-3@proxy")
    own = script(
        """
import json, os, sys
shown = dict(os.environ)
for pid in os.listdir('/proc'):
    if pid.isdigit() and pid != str(os.getpid()):
        try: shown[pid] = open(f'/proc/{pid}/environ').read()
        except OSError: pass
print(json.dumps({'env': shown, 'argv': sys.argv, 'cwd': os.getcwd()}))
open(os.environ['EM_MODEL_DIR'] + '/notes.txt', 'w').write('x')
""",
        datasets={"more-rows": {"name": "measures"}},
        variables={"EM_REGION": "KR1", "FOO": "bar"},
        arguments=("resnet18", "--no-cuda", "a $HOME 'b'"),
    )
    said: list[Any] = []
    start = tmp_path / "start"
    start.mkdir()
    (start / "weights").write_text("w")
    fit = train(
        own, measures, {"learning_rate": 0.1, "use-x": True}, log=said.append,
        context=FitContext(start_from=start, threads=2),
        mlflow={"MLFLOW_RUN_ID": "r", "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"},
    )  # fmt: skip
    import json

    seen = json.loads((fit.artifacts / "own_code" / "output.log").read_text())
    env = seen["env"]
    assert "secret" not in json.dumps(env)
    options = ["--learning_rate", "0.1", "--use-x", "True"]
    assert seen["argv"][1:] == ["resnet18", "--no-cuda", "a $HOME 'b'", *options]
    assert seen["cwd"] == env["EM_SOURCE_DIR"]
    assert env["EM_ENTRY_POINT"] == "train.py"
    assert env["EM_HP_LEARNING_RATE"] == "0.1"
    assert env["EM_HP_USE_X"] == "True"
    assert json.loads(env["EM_HPS"]) == {"learning_rate": 0.1, "use-x": True}
    assert json.loads(env["EM_DATASETS"]) == {
        "train": env["EM_DATASET_TRAIN"],
        "more-rows": env["EM_DATASET_MORE_ROWS"],
    }
    assert (env["EM_REGION"], env["EM_APPKEY"], env["FOO"]) == ("KR1", "trainyard", "bar")
    assert env["EM_CHECKPOINT_INPUT_DIR"].endswith("start")
    assert env["MLFLOW_RUN_ID"] == "r"
    assert env["OMP_NUM_THREADS"] == "2"
    assert {"TF_CONFIG", "RANK", "WORLD_SIZE"}.isdisjoint(env)
    for name in ("HOME", "TMPDIR", "EM_MODEL_DIR", "EM_CHECKPOINT_DIR", "EM_TENSORBOARD_LOG_DIR"):
        assert env[name].startswith(str(tmp_path))
    # Nothing of the run is left but its checkpoints and artifacts.
    work = tmp_path / "work" / "own_code"
    assert sorted(path.name for path in work.iterdir()) == ["artifacts", "checkpoints"]
