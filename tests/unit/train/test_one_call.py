"""A fit that is one call ends when it is told to, and leaves no process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tasks.errors import InvalidData, Unavailable
from tasks.refs import Problem
from tasks.train import algorithms
from tasks.train.algorithms import one_call as module
from tasks.train.algorithms.fit import Fit, FitContext, Rows, TrainingData
from tasks.train.algorithms.one_call import FitOutOfTime, FitStopped, one_call

ROOT = Path(__file__).resolve().parents[3]
FEW_S = 8.0
LASTING = {"support_vector_machine": {"inverse_penalty": 1e4, "max_iterations": 10_000_000}}
"""Settings with which a fit of the noise below takes minutes."""


def noise(rows: int, problem: Problem = Problem.TABLE_CLASSIFICATION) -> TrainingData:
    """Labels that no column tells anything about."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(rows, 8))
    labels = random.integers(0, 2, rows) if problem.is_classification else np.full(rows, np.nan)
    classes = ("a", "b") if problem.is_classification else ()
    return TrainingData(problem, Rows(inputs, labels), None, classes, tuple("abcdefgh"))


def fit(name: str, data: TrainingData, **context: Any) -> Fit:
    """Fit by the catalogue's algorithm."""
    algorithm = algorithms.get(name, data.problem)
    settings = algorithms.settings(algorithm, LASTING.get(name, {}))
    return algorithm.fit(data, settings, FitContext(seed=3, threads=2, **context))


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "one_call" in " ".join(child.cmdline())]


def test_a_stop_during_a_long_call_ends_it_at_once() -> None:
    asked: list[float] = []

    def should_stop() -> bool:
        (child,) = _children()
        if not asked and child.cpu_times().user > 1:
            asked.append(time.monotonic())
        return bool(asked)

    with pytest.raises(FitStopped, match="stopped before it had a model"):
        fit("support_vector_machine", noise(20_000), should_stop=should_stop)
    assert time.monotonic() - asked[0] < FEW_S
    assert not _children()


def test_the_time_limit_ends_a_long_call_and_says_what_to_do() -> None:
    started = time.monotonic()
    with pytest.raises(FitOutOfTime, match=r"not finished within 0.5 s.*raise max_time_s, take fewer rows"):
        fit("support_vector_machine", noise(20_000), max_time_s=0.5)
    assert time.monotonic() - started < FEW_S + 10  # the child imports scikit-learn, which is not counted
    assert not _children()


def test_a_call_outlives_neither_its_parent_nor_being_killed_itself() -> None:
    command = [sys.executable, "-m", "tests.unit.train.test_one_call"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        assert psutil.wait_procs([child], timeout=FEW_S)[1] == []

    def killing() -> bool:
        for child in _children():
            child.kill()
        return False

    with pytest.raises(Unavailable, match=r"ended by SIGKILL.*lack of memory"):
        fit("support_vector_machine", noise(20_000), should_stop=killing)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("support_vector_machine", Problem.TABLE_CLASSIFICATION),
        ("principal_components", Problem.TABLE_DIMENSION_REDUCTION),
    ],
)
def test_in_a_child_the_model_is_the_same(
    name: str, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(80, problem)
    here = fit(name, data)
    monkeypatch.setattr(module, "LONG_OPERATIONS", 0)
    heard: list[int] = []
    there = fit(name, data, max_time_s=100, report=lambda epoch, *_: heard.append(epoch))
    inputs = data.train.inputs
    np.testing.assert_array_equal(here.model.predict(inputs), there.model.predict(inputs))
    assert (here.history, here.ended, here.outputs) == (there.history, there.ended, there.outputs)
    assert heard == [1]


def test_stopping_keeps_the_best_number_of_clusters_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG_OPERATIONS", 0)
    heard: list[int] = []
    kept = fit(
        "k_means",
        noise(50, Problem.TABLE_CLUSTERING),
        report=lambda epoch, *_: heard.append(epoch),
        should_stop=lambda: len(heard) == 1 and bool(_children()),
    )
    assert (kept.ended, len(kept.history), len(kept.outputs)) == ("stopped", 1, 2)


def _refused() -> None:
    raise InvalidData("it cannot be", where="here")


def test_an_error_of_the_call_is_that_of_the_fit() -> None:
    with pytest.raises(InvalidData, match=r"It cannot be. Where: here."):
        one_call(_refused, FitContext(max_time_s=100), operations=np.inf)


if __name__ == "__main__":

    def tell() -> bool:
        """Name the child, once it is there."""
        print(_children()[0].pid, flush=True)
        return False

    fit("support_vector_machine", noise(20_000), should_stop=tell)
