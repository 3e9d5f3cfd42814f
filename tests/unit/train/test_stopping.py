"""A cancellation ends a fit in good order."""

from __future__ import annotations

import contextvars
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.train.stopping import run_stoppable

ROOT = Path(__file__).resolve().parents[3]
NAME = contextvars.ContextVar("NAME", default="nobody")

STOPPED = """
import os, random, signal, threading, time
from tasks.train.stopping import run_stoppable

class Told(BaseException):
    '''What Prefect raises in the main thread when a run is cancelled.'''

def handler(number, frame):
    raise Told

signal.signal(signal.SIGTERM, handler)
for round in range(200):
    done, running = [], threading.Event()

    def work(stop):
        running.set()
        while not stop():
            time.sleep(0.0005)
        done.append("kept")

    def tell():
        running.wait()
        time.sleep(random.random() * 0.002)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=tell).start()
    try:
        run_stoppable(work)
    except Told:
        assert done == ["kept"], "the signal went on before the work had ended"
    else:
        raise AssertionError("nobody was told")
print("all kept")
"""

TWICE = """
import os, signal, tempfile, threading
from tasks.train.stopping import run_stoppable

class Told(BaseException):
    pass

def handler(number, frame):
    raise Told

signal.signal(signal.SIGTERM, handler)
asked, may_end, failed = threading.Event(), threading.Event(), []
threading.excepthook = failed.append

def work(stop):
    os.kill(os.getpid(), signal.SIGTERM)
    while not stop():
        pass
    asked.set()
    os.kill(os.getpid(), signal.SIGTERM)
    may_end.wait()

try:
    run_stoppable(work)
except Told:
    assert asked.is_set() and not may_end.is_set()
(fit,) = [thread for thread in threading.enumerate() if thread.name == "fit"]
others = [tempfile.TemporaryFile() for _ in range(4)]  # whose numbers were those of what was closed
may_end.set()
fit.join()
assert not failed, failed
assert [os.fstat(file.fileno()).st_size for file in others] == [0, 0, 0, 0]
print("the work ended by itself")
"""


def test_work_that_is_not_stopped_gives_its_result_or_its_error() -> None:
    NAME.set("somebody")
    assert run_stoppable(lambda stop: (NAME.get(), stop())) == ("somebody", False)

    def fails(stop: Callable[[], bool]) -> None:
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        run_stoppable(fails)


def test_told_to_stop_the_work_ends_before_the_signal_goes_on() -> None:
    """In a process of its own, since signals are a matter of the whole process."""
    answer = subprocess.run(
        [sys.executable, "-c", STOPPED], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert answer.stdout.strip() == "all kept", answer.stderr


def test_told_twice_it_waits_no_more_and_the_work_ends_in_peace() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", TWICE], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert answer.stdout.strip() == "the work ended by itself", answer.stderr
