"""The ranks of a training at a site: whether the cluster has them, and how a fit is run on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from blocks.dask_cluster import DaskCluster
from tasks.errors import Unavailable
from tasks.train.ranks import launcher
from tasks.train.ranks.rank import Rank

if TYPE_CHECKING:
    from distributed import Client

    from tasks.train.algorithms.fit import Launch
    from tasks.train.config import TrainConfig
    from tasks.train.ranks.gang import Gang
    from tasks.train.resources import Resources


def require_ranks(config: TrainConfig, site: str, resources: Resources, there_is: Resources) -> None:
    """Check, within seconds, that the site's cluster has as many workers as a training has ranks.

    Args:
        config: What to train.
        site: Which set of blocks to use.
        resources: What all ranks together may use.
        there_is: What this host has.

    Raises:
        Unavailable: There are fewer, or the scheduler does not answer.
    """
    if config.num_ranks == 1:
        return
    block = cast(DaskCluster, DaskCluster.load(site))
    if block.address:
        with _connected(block, config.num_ranks, 0) as client:
            workers = len(client.scheduler_info(n_workers=-1)["workers"])
        there = f"the cluster at {block.address} has {workers} workers"
    elif gpus := _gpus(block, resources, there_is):
        workers, there = gpus, f"this host has {gpus} GPU{'s' if gpus > 1 else ''} for ranks"
    else:
        processors = there_is.cpus or 1
        workers = min(block.n_workers, processors)
        there = f"there are {block.n_workers} workers on {processors} processors of this host"
    if config.num_ranks > workers:
        raise Unavailable(
            f"{config.num_ranks} ranks are asked for, and {there}",
            where="num_ranks",
            allowed=f"at most {workers}",
            mend="ask for fewer ranks, or have more workers: see the block Dask Cluster",
        )


@contextmanager
def on_ranks(
    config: TrainConfig, site: str, resources: Resources, there_is: Resources, log: Callable[[str], None]
) -> Iterator[Launch | None]:
    """How a fit is run on the ranks of a training; None where it has but one.

    Args:
        config: What to train.
        site: Which set of blocks to use.
        resources: What all ranks together may use.
        there_is: What this host has.
        log: Hears of lost ranks, and of what the training waits for.
    """
    if config.num_ranks == 1:
        yield None
        return
    from tasks.train.ranks.gang import Gang

    block = cast(DaskCluster, DaskCluster.load(site))
    cpus = resources.cpus or len(os.sched_getaffinity(0))
    gang = Gang(
        num_ranks=config.num_ranks,
        launcher=launcher.get(config.launcher),
        min_ranks=config.min_ranks,
        ranks_per_host=config.ranks_per_host,
        threads=None if block.address else max(1, cpus // config.num_ranks),
    )
    with _connected(block, config.num_ranks, _gpus(block, resources, there_is)) as client:
        yield _OnRanks(gang, client, log)


@dataclass(frozen=True)
class _OnRanks:
    """See `tasks.train.algorithms.fit.Launch`."""

    gang: Gang
    client: Client
    log: Callable[[str], None]

    @property
    def num_ranks(self) -> int:
        return self.gang.num_ranks

    @property
    def threads(self) -> int | None:
        return self.gang.threads

    def __call__(
        self,
        function: Callable[[Rank], Any],
        told: Callable[[Any], None],
        should_stop: Callable[[], bool],
        *,
        every_round: Callable[[], None] = lambda: None,
        joined: bool = True,
    ) -> Any:
        from tasks.train.ranks.gang import Followed, launch

        followed = Followed(told, should_stop, self.log, every_round)
        return launch(function, self.gang, self.client, followed, joined=joined)


@contextmanager
def _connected(block: DaskCluster, ranks: int, gpus: int) -> Iterator[Client]:
    """A client of the cluster.

    Raises:
        Unavailable: The scheduler does not answer.
    """
    starting = block.rank_client(ranks, gpus)
    try:
        client = starting.__enter__()
    except (OSError, ValueError) as error:
        if not block.address:
            raise
        raise Unavailable(
            f"no Dask scheduler answers at {block.address}",
            where="the block Dask Cluster",
            mend="start it, or mend the address; without one, workers are started on this host",
        ) from error
    try:
        yield client
    finally:
        starting.__exit__(None, None, None)


def _gpus(block: DaskCluster, resources: Resources, there_is: Resources) -> int:
    """GPUs of this host that get a worker for ranks; none where the preset grants none."""
    there = min(one for one in (there_is.gpus or 0, resources.gpus) if one is not None)
    return there if block.gpu_workers is None else min(there, block.gpu_workers)
