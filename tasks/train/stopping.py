"""Let a fit end in good order when its flow run is cancelled, instead of tearing it apart."""

from __future__ import annotations

import contextvars
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
ROUND_S = 0.5
START_S = 2.0
"""A thread that has not begun after this never will."""


def run_stoppable(work: Callable[[Callable[[], bool]], T]) -> T:
    """Run work in a second thread, so that this one is free to be told to stop.

    A cancellation reaches the main thread as an exception wherever it happens to be. Here it is
    waiting; the work is asked to end, and when it has, the exception goes on its way. A Prefect worker
    kills a cancelled process after 30 s, so the work should not take longer over it. Who is told to stop
    a second time waits no more: the work, which was asked, ends behind its back.

    Args:
        work: Called with a function that it asks every now and then whether to end.

    Returns:
        What the work returns, if nobody stopped it.
    """
    asked: list[bool] = []
    begun: list[bool] = []
    results: list[T] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()
    # A pipe, and no lock: an exception out of a signal handler may leave a lock of Python's taken. Each
    # thread closes its own end, so that neither can close, or write to, what a number has come to mean.
    ended, end = os.pipe()

    def wait() -> None:
        # In rounds: the signal may reach another thread, and Python handles it when this one next wakes.
        while not select.select([ended], [], [], ROUND_S)[0]:
            pass

    def run() -> None:
        begun.append(True)
        try:
            results.append(context.run(work, lambda: bool(asked)))
        except BaseException as error:
            errors.append(error)
        finally:
            with suppress(BrokenPipeError):  # nobody waits any more
                os.write(end, b".")
            os.close(end)

    try:
        threading.Thread(target=run, name="fit").start()
        wait()
    except BaseException:
        asked.append(True)
        deadline = time.monotonic() + START_S
        while not begun and time.monotonic() < deadline:
            time.sleep(0.01)  # the exception came while the thread was being made
        if begun:
            wait()
        else:
            os.close(end)
        raise
    finally:
        os.close(ended)
    if errors:
        raise errors[0]
    return results[0]
