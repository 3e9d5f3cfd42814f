"""The Dask cluster of a site: what it is asked for against what there is, and how it is reached."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from blocks.dask_cluster import DaskCluster, limit_bytes
from tasks.errors import InvalidSettings, Unavailable

if TYPE_CHECKING:
    from distributed import Client

BLOCK = "the block Dask Cluster"


def dask_cluster(site: str) -> DaskCluster:
    """The block of a site.

    Raises:
        InvalidSettings: Something in it cannot be; all of it is said.
    """
    try:
        return cast(DaskCluster, DaskCluster.load(site))
    except RuntimeError as error:
        raise InvalidSettings(
            f"the block cannot be used: {faults(error)}",
            where=f"{BLOCK}, '{site}'",
            mend="correct it in the Prefect pages, under Blocks",
        ) from error


def faults(error: RuntimeError) -> str:
    """All that cannot be in a block that did not load, in words.

    Args:
        error: What Prefect raised; it is raised again where that was for another reason.
    """
    if not isinstance(error.__cause__, ValidationError):
        raise error
    return "; ".join(
        f"{'.'.join(map(str, one['loc']))} {one['msg'].removeprefix('Value error, ')}"
        for one in error.__cause__.errors()
    )


@contextmanager
def dask_client(site: str) -> Iterator[Client]:
    """A client of the site's cluster, with workers started for it where no scheduler runs.

    Raises:
        InvalidSettings: The block cannot be.
        Unavailable: It asks for more than this host has, or does not answer.
    """
    block = dask_cluster(site)
    if not block.address:
        require_room(block, block.n_workers)
    with reached(block, block.client()) as client:
        yield client


def require_room(block: DaskCluster, workers: int) -> None:
    """Check that this host has the processors and the memory of workers that are to be started on it.

    Raises:
        Unavailable: It has fewer or less, in numbers.
    """
    from distributed.system import MEMORY_LIMIT

    processors = len(os.sched_getaffinity(0))
    if workers > processors:
        raise Unavailable(
            f"{workers} workers are asked for, and this host has {processors} "
            f"processor{'s' if processors > 1 else ''}, one for a worker",
            where=f"{BLOCK}, n_workers",
            allowed=f"at most {processors}",
            mend="set n_workers lower, or the address of a cluster with more",
        )
    each = None if block.memory_limit == "auto" else limit_bytes(block.memory_limit, MEMORY_LIMIT)
    if each is not None and workers * each > MEMORY_LIMIT:
        raise Unavailable(
            f"{gib(workers * each)} of memory are asked for, {gib(each)} for each of "
            f"{workers} worker{'s' if workers > 1 else ''}, "
            f"and this host has {gib(MEMORY_LIMIT)}",
            where=f"{BLOCK}, memory_limit",
            allowed=f"at most {gib(MEMORY_LIMIT // workers)} for each worker",
            mend="set memory_limit lower, or to auto, which shares what there is",
        )


@contextmanager
def reached(block: DaskCluster, starting: AbstractContextManager[Client]) -> Iterator[Client]:
    """Enter a client of the block, and say in words why it cannot be.

    Args:
        block: Where the cluster is.
        starting: Its client, or that of ranks.

    Raises:
        Unavailable: The scheduler does not answer, or workers are missing.
    """
    from distributed.exceptions import WorkerStartTimeoutError

    with ExitStack() as stack:
        try:
            client = stack.enter_context(starting)
        except WorkerStartTimeoutError as error:
            there, wanted = error.available_workers, error.expected_workers
            raise Unavailable(
                f"{wanted} worker{'s are' if wanted > 1 else ' is'} asked for, and the cluster at "
                f"{block.address} has {there or 'none'} after {block.connect_timeout_s:g} s",
                where=BLOCK,
                allowed=f"at most {there}" if there else "",
                mend="start more workers, ask for fewer, or raise connect_timeout_s where they come late",
            ) from error
        except (OSError, TypeError, ValueError, RuntimeError) as error:
            raise _unreached(block, error) from error
        yield client


def _unreached(block: DaskCluster, error: Exception) -> Unavailable:
    if block.address:
        return Unavailable(
            f"no Dask scheduler answers at {block.address} ({_first_line(error)})",
            where=BLOCK,
            mend="start it, or mend the address and, with tls://, the files; without an address, workers are "
            "started on this host",
        )
    return Unavailable(
        f"the workers did not start: {_first_line(error)}",
        where=f"{BLOCK}, on this host",
        mend="look at the log of the run; start_timeout_s bounds the wait",
    )


def _first_line(error: BaseException) -> str:
    """What an error says, without Dask's objects in it."""
    said = f"{error}".strip() or type(error).__name__
    return re.sub(r"in <[^>]*>: ", "", said).splitlines()[0][:300]


def gib(amount: float) -> str:
    """Bytes for people."""
    return f"{amount / 2**30:.3g} GiB"
