"""Let a fit end in good order when its flow run is cancelled, instead of tearing it apart."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event
from typing import TypeVar

FINISH_S = 25.0
"""Time to write down the best model so far; a Prefect worker kills a cancelled process after 30 s."""

T = TypeVar("T")


def run_stoppable(work: Callable[[Callable[[], bool]], T]) -> T:
    """Run work in a second thread, so that this one is free to be told to stop.

    A cancellation reaches the main thread as an exception wherever it happens to be. Here it is
    waiting; the work is asked to end, gets the time to do so, and the exception goes on its way.

    Args:
        work: Called with a function that it asks every now and then whether to end.

    Returns:
        What the work returns, if nobody stopped it.
    """
    asked = Event()
    context = contextvars.copy_context()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fit") as pool:
        future: Future[T] = pool.submit(context.run, work, asked.is_set)
        try:
            wait([future])
        except BaseException:
            asked.set()
            wait([future], timeout=FINISH_S)
            raise
        return future.result()
