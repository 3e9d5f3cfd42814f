"""Let a fit end in good order when its flow run is cancelled, instead of tearing it apart."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")
START_S = 2.0


def run_stoppable(work: Callable[[Callable[[], bool]], T]) -> T:
    """Run work in a second thread, so that this one is free to be told to stop.

    A cancellation reaches the main thread as an exception wherever it happens to be. Here it is
    waiting; the work is asked to end, and when it has, the exception goes on its way. A Prefect worker
    kills a cancelled process after 30 s, so the work should not take longer over it.

    Args:
        work: Called with a function that it asks every now and then whether to end.

    Returns:
        What the work returns, if nobody stopped it.
    """
    asked, begun = Event(), Event()
    context = contextvars.copy_context()
    result: Future[T] = Future()

    def run() -> None:
        begun.set()
        try:
            result.set_result(context.run(work, asked.is_set))
        except BaseException as error:
            result.set_exception(error)

    try:
        Thread(target=run, name="fit").start()
        wait([result])
    except BaseException:
        asked.set()
        if begun.wait(START_S):  # the exception may have come while the thread was being made
            wait([result])
        raise
    return result.result()
