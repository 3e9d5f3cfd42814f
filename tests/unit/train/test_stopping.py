"""A cancellation ends a fit in good order."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tasks.train.stopping import run_stoppable

NAME = contextvars.ContextVar("NAME", default="nobody")


class Told(BaseException):
    """What Prefect raises in the main thread when a run is cancelled."""


@pytest.fixture
def sigterm_raises() -> Iterator[None]:
    def handler(number: int, frame: object) -> None:
        raise Told

    before = signal.signal(signal.SIGTERM, handler)
    yield
    signal.signal(signal.SIGTERM, before)


def test_work_that_is_not_stopped_gives_its_result_or_its_error() -> None:
    NAME.set("somebody")
    assert run_stoppable(lambda stop: (NAME.get(), stop())) == ("somebody", False)

    def fails(stop: Callable[[], bool]) -> None:
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        run_stoppable(fails)


def test_told_to_stop_the_work_ends_before_the_signal_goes_on(sigterm_raises: None) -> None:
    done: list[str] = []
    running = threading.Event()

    def work(stop: Callable[[], bool]) -> None:
        running.set()
        while not stop():
            time.sleep(0.001)
        done.append("kept")

    def tell() -> None:
        running.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=tell).start()
    with pytest.raises(Told):
        run_stoppable(work)
    assert done == ["kept"]
