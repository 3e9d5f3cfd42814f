"""Run one function over many partitions: in this process, or on the workers of a Dask cluster."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from distributed import Client

STOP_TIMEOUT_S = 60.0
"""A task that runs for longer after it was cancelled is left to itself."""

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[int, int], None]
"""Hears of the partitions that are done, and of how many there are, whenever one is."""


def silent(done: int, total: int) -> None:
    """A progress that nobody watches."""


def map_partitions(
    function: Callable[[Item], Result],
    partitions: Sequence[Item],
    client: Client | None,
    progress: Progress = silent,
) -> list[Result]:
    """Results in the order of the partitions; the first error ends it.

    Partitions are a task each, so they should be worth a tenth of a second or more.
    """
    results: list[Result] = []
    if client is None:
        for done, partition in enumerate(partitions, 1):
            results.append(function(partition))
            progress(done, len(partitions))
        return results
    from distributed import as_completed

    dask: Any = client  # distributed has no types for these
    futures = dask.map(function, partitions, pure=False)
    try:
        for done, future in enumerate(as_completed(futures), 1):
            if future.status == "error":
                future.result()
            progress(done, len(futures))
        results = dask.gather(futures)
    except BaseException:
        stop(dask, futures)
        raise
    return results


def each_partition(
    function: Callable[[Item], Result], partitions: Iterable[Item], client: Client | None
) -> Generator[Result]:
    """The same as `map_partitions`, one result after the other.

    Only so many tasks are under way that no worker waits, so that neither their arguments nor their
    results ever lie in memory together.
    """
    if client is None:
        yield from map(function, partitions)
        return
    dask: Any = client
    ahead = 4 * max(1, sum(dask.nthreads().values()))
    waiting: deque[Any] = deque()
    try:
        for partition in partitions:
            waiting.append(dask.submit(function, partition, pure=False))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        if waiting:
            stop(dask, waiting)


def stop(client: Any, futures: Iterable[Any]) -> None:
    """Cancel tasks, and wait until no worker is at one of them.

    Dask forgets a cancelled task, while the thread that is at it goes on to its end: whoever removes the
    files that such tasks write must wait for that.
    """
    futures = list(futures)
    keys = {future.key for future in futures}
    client.cancel(futures)
    give_up = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < give_up and any(client.run(_runs_one_of, keys, on_error="ignore").values()):
        time.sleep(0.02)


def _runs_one_of(keys: set[str], dask_worker: Any = None) -> bool:
    return any(task.key in keys for task in dask_worker.state.executing)
