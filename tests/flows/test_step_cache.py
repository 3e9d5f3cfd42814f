"""The cache tells the truth: each thing that a step depends on makes it run again when it changes."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect import flow

from tasks import cache

TASK = """
from pathlib import Path
from prefect import task
from tasks.cache import StepCache
from tasks.errors import Damaged

def verify(result, inputs):
    if not Path(result).is_file():
        raise Damaged("The file is gone", where=result, mend="it is made again")

@task(name="probe-{name}", cache_policy=StepCache(verify=verify), persist_result=True,
      result_serializer="json")
def step(folder: str, number: int) -> str:
    from {name}.helper import text
    with open(folder + "/calls", "a") as calls:
        calls.write("x")
    file = Path(folder, f"result-{{number}}")
    file.write_text(text(number))
    return str(file)
"""
HELPER = "def text(number):\n    return 'first ' + str(number)\n"


def _forget_code() -> None:
    cache._import_graph.cache_clear()
    cache._source_digest.cache_clear()


@pytest.fixture
def probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[tuple[Path, Callable[[int], int]]]:
    """A package of one step and one helper; calling it returns how often the step's body has run."""
    name = "probe_" + request.node.name.replace("test_", "")
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "task.py").write_text(TASK.format(name=name))
    (package / "helper.py").write_text(HELPER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cache, "PROJECT_PACKAGES", (name,))
    _forget_code()

    @flow(name=name)
    def run(number: int) -> None:
        importlib.import_module(f"{name}.task").step(str(tmp_path), number)

    def bodies_run(number: int) -> int:
        run(number)
        return len((tmp_path / "calls").read_text())

    yield package, bodies_run
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[module]
    _forget_code()


def test_same_everything_is_reused(probe, caplog: pytest.LogCaptureFixture) -> None:
    _, bodies_run = probe
    assert bodies_run(1) == 1
    with caplog.at_level(logging.INFO):
        assert bodies_run(1) == 1
    assert "reused" in caplog.text


def test_other_input_runs_and_is_named(probe, caplog: pytest.LogCaptureFixture) -> None:
    _, bodies_run = probe
    bodies_run(1)
    with caplog.at_level(logging.INFO):
        assert bodies_run(2) == 2
    assert "changed since the nearest earlier run: input number" in caplog.text


def test_edited_helper_runs_again(probe, caplog: pytest.LogCaptureFixture) -> None:
    package, bodies_run = probe
    bodies_run(1)
    (package / "helper.py").write_text(HELPER.replace("first", "second"))
    _forget_code()
    with caplog.at_level(logging.INFO):
        assert bodies_run(1) == 2
    assert f"code {package.name}.helper" in caplog.text


def test_missing_result_runs_again(probe, caplog: pytest.LogCaptureFixture) -> None:
    package, bodies_run = probe
    bodies_run(1)
    (package.parent / "result-1").unlink()
    with caplog.at_level(logging.WARNING):
        assert bodies_run(1) == 2
    assert "The file is gone" in caplog.text
    assert bodies_run(1) == 2


def test_other_dependencies_run_again(
    probe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, bodies_run = probe
    bodies_run(1)
    monkeypatch.setattr(cache, "dependencies_digest", lambda: "another set")
    with caplog.at_level(logging.INFO):
        assert bodies_run(1) == 2
    assert "installed dependencies" in caplog.text


def test_code_digests_reach_helpers_of_a_real_stage() -> None:
    reached = cache.code_digests("tasks.data.task")
    assert "code tasks.data.storage.store" in reached
    assert "code tasks.errors" in reached
    assert not any(name.startswith("code tasks.serve") for name in reached)
