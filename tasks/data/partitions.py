"""Run one function over many partitions: in this process, or on the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_partitions(
    function: Callable[[Item], Result], partitions: Sequence[Item], client: Client | None
) -> list[Result]:
    """Results in the order of the partitions; the first error ends it.

    Partitions are a task each, so they should be worth a tenth of a second or more.
    """
    if client is None:
        return [function(partition) for partition in partitions]
    dask: Any = client  # distributed has no types for these
    futures = dask.map(function, partitions, pure=False)
    try:
        results: list[Result] = dask.gather(futures)
    finally:
        dask.cancel(futures)  # what an error left waiting
    return results
