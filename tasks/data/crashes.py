"""Work on Dask workers that may die of it: a file that crashes its reader is found, and costs only itself.

A decoder that meets a hostile file can take the whole process with it (a segmentation fault, the memory
limit). Dask would try the same task on the next worker, and the next. Here a task has one life; the files
of a task whose worker died are then tried in ever smaller groups until those that kill are found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.data.layouts.layout import SourcePartition
from tasks.data.partitions import Progress, silent, stop
from tasks.errors import Unavailable

if TYPE_CHECKING:
    from distributed import Client

HALVINGS = 4
"""A group is cut into 2 ** this many at once: a worker that died takes seconds to come back."""

PATIENCE_S = 120.0
"""How long to wait for a worker to come back."""

COME_BACK_S = 30.0
"""How long to wait until as many workers are there as before one died."""

MOST_LETHAL = 20
"""After so many files that kill workers the search ends."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def survivors(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    client: Client,
    progress: Progress = silent,
) -> list[Result | None]:
    """Results in the order of the items; None where the worker died. The first error ends it."""
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    dask: Any = client  # distributed has no types for these
    _let_workers_come_back()
    futures = dask.map(function, items, pure=False)
    place_of = {future.key: place for place, future in enumerate(futures)}
    results: list[Result | None] = [None] * len(items)
    try:
        _wait_for_a_worker(dask)  # not before there is work: some clusters grow when there is
        workers = len(dask.nthreads())
        _give_one_life(dask, list(place_of))
        for count, future in enumerate(as_completed(futures), 1):
            # It may be lost on the way and made again, or not: what comes in the end counts.
            with suppress(KilledWorker):
                results[place_of[future.key]] = future.result()
            # Results that stay on a worker would be made again if that worker died.
            future.release()
            progress(count, len(items))
    except BaseException:
        stop(dask, futures)
        raise
    if any(result is None for result in results):
        # A local cluster that is closed while a worker starts again waits for ever.
        with suppress(TimeoutError):
            dask.wait_for_workers(workers, timeout=COME_BACK_S)
    return results


@dataclass(frozen=True)
class Sifted:
    """The rows of a partition, taken apart.

    Attributes:
        safe: Partitions that were read without harm, in order.
        lethal: Names of the files that kill the process that reads them.
    """

    safe: tuple[SourcePartition, ...]
    lethal: tuple[str, ...]


def sifted(partition: SourcePartition, client: Client) -> Sifted:
    """Find the files in a partition at which workers die, by reading it in ever smaller groups."""
    safe: list[SourcePartition] = []
    lethal: list[str] = []
    for part in _cut(partition):
        if len(lethal) >= MOST_LETHAL:
            break
        if _outlived(part, client):
            safe.append(part)
        elif part.halved():
            below = sifted(part, client)
            safe.extend(below.safe)
            lethal.extend(below.lethal)
        elif _outlived(part, client):  # a worker may die of something else, once
            safe.append(part)
        else:
            lethal.extend(part.names())
    return Sifted(tuple(safe), tuple(lethal))


def _outlived(partition: SourcePartition, client: Client) -> bool:
    # One at a time: tasks that wait on the same worker would be lost with it.
    return survivors(_read_and_forget, [partition], client)[0] is not None


def _read_and_forget(partition: SourcePartition) -> int:
    return sum(rows.table.num_rows for rows in partition.read())


def _cut(partition: SourcePartition) -> Iterator[SourcePartition]:
    parts: list[SourcePartition] = [partition]
    for _ in range(HALVINGS):
        parts = [half for part in parts for half in (part.halved() or [part])]
    yield from parts


def _let_workers_come_back() -> None:
    """Keep a local cluster from giving up a worker that dies for a second time.

    So many seconds after a worker was lost, the cluster looks whether it is there again, and removes it for
    good if it is not; it may be just about to start once more.
    """
    import dask.config

    dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"})


def _wait_for_a_worker(client: Any) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE_S)
    except TimeoutError:
        raise Unavailable(
            "All Dask workers are gone",
            where=client.scheduler.address,
            mend="look into their logs for why they ended, and start them again",
        ) from None


def _give_one_life(client: Any, keys: Sequence[str]) -> None:
    """Let these tasks fail as soon as their worker dies, whatever the scheduler allows to others."""
    give_up = time.monotonic() + PATIENCE_S
    while keys and time.monotonic() < give_up:
        # Tasks and this call reach the scheduler by different ways: the tasks may not be there yet.
        keys = client.run_on_scheduler(_use_up, keys=keys)


def _use_up(keys: Sequence[str], dask_scheduler: Any = None) -> list[str]:
    late = []
    for key in keys:
        task = dask_scheduler.tasks.get(key)
        if task is None:
            late.append(key)
        else:
            task.suspicious = dask_scheduler.allowed_failures
    return late
