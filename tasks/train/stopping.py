"""Let a fit end in good order when its flow run is cancelled, instead of tearing it apart."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event
from typing import TypeVar

T = TypeVar("T")


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
    asked = Event()
    context = contextvars.copy_context()
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fit")
    try:
        future = pool.submit(context.run, work, asked.is_set)
        wait([future])
    except BaseException:
        asked.set()
        raise
    finally:
        pool.shutdown(wait=True)
    return future.result()
