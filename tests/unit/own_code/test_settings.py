"""What is refused before anything is started, and how metrics are read."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings, NotAllowed, NotFound
from tasks.refs import DatasetRef
from tasks.train.own_code.config import OwnCode, require_hyperparameters
from tasks.train.own_code.following import MOST_NAMES, Follower
from tasks.train.own_code.own_code import OwnCodeFit, check_own_code
from tasks.train.own_code.patterns import MetricPattern
from tasks.train.own_code.source import SourceAccess, identify
from tests.helpers.s3_server import empty_folder, s3_server

Script = Callable[..., OwnCode]


def check(own: OwnCode, ref: DatasetRef, store: DatasetStore, **hyperparameters: object) -> None:
    check_own_code(own, hyperparameters, ref, store, SourceAccess())  # type: ignore[arg-type]


def test_every_fault_is_said_at_once(script: Script, measures: DatasetRef, store: DatasetStore) -> None:
    own = script("x = (", datasets={"more": {"name": "absent"}})
    with pytest.raises(InvalidSettings) as caught:
        check(own, measures, store, **{"learning rate": 1, "lr": float("nan")})
    said = str(caught.value)
    for part in ("'learning rate' is not a name", "lr is nan", "absent", "syntax error", "train.py, line 1"):
        assert part in said


@pytest.mark.parametrize(
    ("content", "cause", "where"),
    [
        ("def f(:\n  pass", "the code has a syntax error", "train.py, line 1"),
        ("x = 1\nreturn x", "the code has a syntax error", "train.py, line 2"),
        (
            "import os, no_such_package\n",
            "the code imports no_such_package, which is not installed",
            "line 1",
        ),
        ("import helper", "the code has a syntax error", "helper.py, line 2"),
        ("a\0b", "the code has a syntax error", "train.py"),
    ],
)
def test_code_that_cannot_run(
    script: Script, measures: DatasetRef, store: DatasetStore, content: str, cause: str, where: str
) -> None:
    own = script(content, files={"helper.py": "x = 1\nwhile True print(x)"})
    with pytest.raises(InvalidData) as caught:
        check(own, measures, store)
    assert caught.value.what.startswith(cause)
    assert where in caught.value.where


def test_imports_that_the_code_can_do_without(
    script: Script, measures: DatasetRef, store: DatasetStore
) -> None:
    content = """
try:
    import wandb_which_is_absent
except ImportError:
    wandb = None
def later():
    import absent_as_well
from helper import x
import package.part
"""
    own = script(content, files={"helper.py": "x = 1"})
    from pathlib import Path

    (Path(own.source) / "package").mkdir()
    (Path(own.source) / "package" / "part.py").write_text("import json")
    check(own, measures, store)


def test_sources_that_are_not_there(
    script: Script, measures: DatasetRef, store: DatasetStore, tmp_path: object
) -> None:
    with pytest.raises(InvalidSettings, match=r"no main\.py"):
        check(script("x = 1", entry_point="main.py"), measures, store)
    with pytest.raises(NotFound):
        check(OwnCode(source="/nowhere/at/all"), measures, store)
    with pytest.raises(NotAllowed):
        check_own_code(script("x = 1"), {}, measures, store, SourceAccess(roots=("/data",)))
    with pytest.raises(InvalidSettings, match="Samples"):
        check(OwnCode(source="sample:iris"), measures, store)


def test_an_archive_with_a_folder_around_it(
    script: Script, measures: DatasetRef, store: DatasetStore
) -> None:
    import shutil
    from pathlib import Path

    own = script("import helper", files={"helper.py": "x = 1"})
    packed = shutil.make_archive(
        str(Path(own.source).parent / "packed"), "zip", Path(own.source).parent, "code"
    )
    check(OwnCode(source=packed), measures, store)


def test_the_identity_follows_the_content(script: Script, measures: DatasetRef, store: DatasetStore) -> None:
    own = script("x = 1", datasets={"more": {"name": "measures"}})
    first = identify(own, store, SourceAccess())
    assert first["dataset more"] == measures.digest
    assert identify(own, store, SourceAccess()) == first
    script("x = 2")
    assert identify(own, store, SourceAccess())["own code"] != first["own code"]


def test_code_that_is_edited_after_it_was_identified_is_not_run(
    train: Callable[..., OwnCodeFit], script: Script, measures: DatasetRef, store: DatasetStore
) -> None:
    save = "import os; open(os.environ['EM_MODEL_DIR'] + '/notes.txt', 'w').write('x')\n"
    own = script(save)
    identity = {"start weights": "of no concern here", **identify(own, store, SourceAccess())}
    assert train(own, measures, identity=identity).ended == "finished"
    script(save + "print('edited')")
    with pytest.raises(InvalidData, match=r"^The code changed while .* To mend: run it again") as caught:
        train(own, measures, identity=identity)
    assert caught.value.where == own.source
    train(own, measures, identity=identify(own, store, SourceAccess()))


def test_code_on_s3(
    train: Callable[..., OwnCodeFit], script: Script, measures: DatasetRef, store: DatasetStore
) -> None:
    """A folder and an archive; its identity follows the content there."""
    import shutil
    from pathlib import Path

    import s3fs

    own = script(
        "import helper", files={"helper.py": "import os; open(os.environ['EM_MODEL_DIR'] + '/m', 'w')"}
    )
    folder = Path(own.source)
    packed = shutil.make_archive(str(folder.parent / "packed"), "zip", folder)
    with s3_server() as options, empty_folder(options) as url:
        files, access = s3fs.S3FileSystem(**options), SourceAccess(options)
        files.put(str(folder), f"{url}/code", recursive=True)
        files.put(packed, f"{url}/packed.zip")
        for source in (f"{url}/code", f"{url}/packed.zip"):
            own = OwnCode(source=source)
            identity = identify(own, store, access)
            assert train(own, measures, access=access, identity=identity).ended == "finished"
        files.pipe(f"{url}/packed.zip", b"another")
        assert identify(own, store, access)["own code"] != identity["own code"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"entry_point": "../train.py"}, "below the source"),
        ({"entry_point": "/train.py"}, "below the source"),
        ({"entry_point": "train.sh"}, r"\.py or \.ipynb"),
        ({"datasets": {"TRAIN": {"name": "x"}}}, "share the variable EM_DATASET_TRAIN"),
        ({"datasets": {f"d{n}": {"name": "x"} for n in range(11)}}, "at most 10"),
        ({"variables": {"EM_MODEL_DIR": "x"}}, "set by Trainyard"),
        ({"variables": {"PYTHONPATH": "x"}}, "set by Trainyard"),
        ({"metrics": {"a": {"pattern": "a(", "sample_line": "a"}}}, "no regular expression"),
        ({"metrics": {"a": {"pattern": "a", "sample_line": "a"}}}, "0 groups"),
        ({"metrics": {"a": {"pattern": r"b(\d)", "sample_line": "a1"}}}, "finds nothing"),
        ({"metrics": {"a": {"pattern": r"a(\w)", "sample_line": "ab"}}}, "finds no number"),
        (
            {"metrics": {"a": {"pattern": r"^(?:x|xx)+: (\d)$", "sample_line": "x" * 60 + ": z"}}},
            "takes too long",
        ),
        ({"metrics": {"*": {"pattern": r"a=(\d)", "sample_line": "a=1"}}}, "two groups"),
        (
            {"metrics": {name: {"pattern": r"a=(\d)", "sample_line": "a=1"} for name in ("a%", "a$")}},
            "two metrics would be 'a_'",
        ),
        ({"limits": {"memory_gib": float("inf")}}, "finite"),
        ({"limits": {"processes": 0}}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        OwnCode.model_validate({"source": "/code", **settings})


def test_every_setting_has_its_sentence() -> None:
    from tasks.train.own_code.config import ImageInput, Limits

    for model in (OwnCode, ImageInput, Limits, MetricPattern):
        for name, field in model.model_fields.items():
            assert field.description, name
            assert field.description.endswith("."), name


def test_hyperparameters_that_share_a_variable_and_too_many() -> None:
    with pytest.raises(InvalidSettings, match="share the variable EM_HP_A_B"):
        require_hyperparameters({"a-b": 1, "a_b": 2})
    with pytest.raises(InvalidSettings, match="101 hyperparameters"):
        require_hyperparameters({f"h{n}": n for n in range(101)})
    require_hyperparameters({f"h{n}": n for n in range(100)})


def follower(metrics: dict[str, object]) -> tuple[Follower, list[tuple[int, dict[str, float]]], list[str]]:
    from pathlib import Path

    own = OwnCode.model_validate({"source": "/code", "metrics": metrics})
    steps: list[tuple[int, dict[str, float]]] = []
    said: list[str] = []
    return Follower(own, Path("/nowhere"), said.append, lambda s, m: steps.append((s, m))), steps, said


def test_metrics_in_lines_that_come_in_pieces() -> None:
    read, steps, _ = follower(
        {
            "accuracy": {
                "pattern": r"epoch (\d+) accuracy: ([\d.]+)",
                "sample_line": "epoch 1 accuracy: 0.9",
            },
            "loss": {"pattern": r"loss[=:] *(\S+)", "sample_line": "loss: 1e-3"},
            "*": {"pattern": r"^METRIC (\w+)=([-\d.e]+)$", "sample_line": "METRIC f1=0.5"},
        }
    )
    for part in (
        b"epoch 3 accu",
        b"racy: 0.75\r\nloss=2.5",
        b"\nloss=1.5\rMETRIC f1=-1e-2\n",
        b"loss: soon\n",
    ):
        read(part)
    read(b"loss=0.5")
    read.finish()
    assert steps == [
        (3, {"accuracy": 0.75}),
        (1, {"loss": 2.5}),
        (2, {"loss": 1.5}),
        (1, {"f1": -0.01}),
        (3, {"loss": 0.5}),
    ]


def test_metrics_are_named_as_mlflow_takes_them() -> None:
    read, steps, _ = follower(
        {
            "acc (%)": {"pattern": r"acc=(\d+)", "sample_line": "acc=9"},
            "*": {"pattern": r"^METRIC (\S+)=(\d+)$", "sample_line": "METRIC f1=5"},
        }
    )
    read(b"acc=97\nMETRIC /loss=2\nMETRIC a//b=3\nMETRIC ..=4\nMETRIC f1@5=6\n")
    assert [metrics for _, metrics in steps] == [
        {"acc ___": 97.0}, {"loss": 2.0}, {"a/b": 3.0}, {"_": 4.0}, {"f1_5": 6.0},
    ]  # fmt: skip


def test_code_that_names_metrics_without_end_is_heard_up_to_a_bound() -> None:
    read, steps, said = follower(
        {
            "loss": {"pattern": r"loss=(\d+)", "sample_line": "loss=9"},
            "*": {"pattern": r"^METRIC (\S+)=(\d+)$", "sample_line": "METRIC f1=5"},
        }
    )
    for number in range(MOST_NAMES + 100):
        read(f"METRIC m{number}=1\n".encode())
    read(b"METRIC m0=2\nloss=3\n")
    assert len({name for _, metrics in steps for name in metrics}) == MOST_NAMES + 1
    assert steps[-2:] == [(2, {"m0": 2.0}), (1, {"loss": 3.0})], "what was asked for is taken in any case"
    assert len([line for line in said if "others that are new are left out" in line]) == 1


def test_a_loss_that_is_nan_ends_the_training() -> None:
    read, _, _ = follower({"loss": {"pattern": r"loss (\S+)", "sample_line": "loss 1"}})
    with pytest.raises(InvalidData, match="The metric loss is nan at step 1"):
        read(b"loss nan\n")


def test_a_pattern_that_backtracks_on_a_line_of_output_is_ended() -> None:
    pattern = {"pattern": r"^(?:\w|\w\w)+: (\d+)$", "sample_line": "s: 1"}
    read, _, _ = follower({"loss": pattern})
    began = time.monotonic()
    with pytest.raises(InvalidData, match="takes too long on a line"):
        read(b"word" * 30 + b": x\n")
    assert time.monotonic() - began < 20


def test_the_log_is_bounded_and_endless_lines_are_cut() -> None:
    read, _, said = follower({})
    read(b"line\n" * 10_000 + b"x" * 1_000_000)
    read(b"y" * 1_000_000 + b"\nlast\n")
    read.finish()
    assert len(said) < 60
    assert any("more lines" in line for line in said)
    assert max(map(len, said)) <= 2_000
    assert read.lines[-1] == "last"
