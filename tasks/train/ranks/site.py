"""The ranks of a training at a site: whether the cluster has them, and how a fit is run on them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.cluster import BLOCK, dask_cluster, reached, require_room
from tasks.errors import Unavailable
from tasks.train.ranks import launcher
from tasks.train.ranks.rank import Rank

if TYPE_CHECKING:
    from distributed import Client

    from blocks.dask_cluster import DaskCluster
    from tasks.train.algorithms.fit import Launch
    from tasks.train.config import TrainConfig
    from tasks.train.ranks.gang import Gang
    from tasks.train.resources import Resources


def require_ranks(config: TrainConfig, site: str, resources: Resources, there_is: Resources) -> None:
    """Check, within seconds, that the site's cluster has what the ranks of a training ask for.

    Args:
        config: What to train.
        site: Which set of blocks to use.
        resources: What all ranks together may use.
        there_is: What this host has.

    Raises:
        InvalidSettings: The block cannot be.
        Unavailable: There are fewer workers, GPUs or processors or less memory, or the scheduler does not
            answer.
    """
    if config.num_ranks == 1:
        return
    block = dask_cluster(site)
    if block.address:
        with reached(block, block.rank_client(config.num_ranks, 0)) as client:
            # Not by `scheduler_info`: a look of the client's own, in between, may leave it without workers.
            assert client.scheduler is not None
            workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"].values()
        _require_workers_room(config.num_ranks, list(workers), resources, block.address)
        return
    require_here(block, config.num_ranks, resources, there_is)


def require_here(block: DaskCluster, ranks: int, resources: Resources, there_is: Resources) -> None:
    """Check that this host has the workers that are to be started on it, one for each rank.

    Args:
        block: Of the cluster.
        ranks: How many.
        resources: What all ranks together may use.
        there_is: What this host has.
    """
    installed = max(there_is.gpus or 0, _installed_gpus())
    if (block.gpu_workers or 0) > installed:
        raise Unavailable(
            f"{block.gpu_workers} GPU workers are asked for, and this host has {installed} GPUs",
            where=f"{BLOCK}, gpu_workers",
            allowed=f"at most {installed}, or empty for all that there are",
            mend="set gpu_workers lower, or the address of a cluster with more",
        )
    if gpus := _gpus(block, resources, there_is):
        _require_gpu_packages(block)
        workers_there, there = gpus, f"this host has {gpus} GPU{'s' if gpus > 1 else ''} for ranks"
    else:
        processors = there_is.cpus or 1
        workers_there = min(block.n_workers, processors)
        there = f"there are {block.n_workers} workers on {processors} processors of this host"
    if ranks > workers_there:
        raise Unavailable(
            f"{ranks} ranks are asked for, and {there}",
            where="num_ranks",
            allowed=f"at most {workers_there}",
            mend="ask for fewer ranks, or have more workers: see the block Dask Cluster",
        )
    require_room(block, ranks)


def _require_workers_room(
    ranks: int, workers: Sequence[Mapping[str, Any]], resources: Resources, address: str
) -> None:
    """Check that the workers of a running scheduler have what a preset grants all ranks together.

    Args:
        ranks: How many ranks, each on a worker of its own.
        workers: What the scheduler says of each.
        resources: What the preset grants.
        address: Of the scheduler.
    """
    threads = sum(sorted((one["nthreads"] for one in workers), reverse=True)[:ranks])
    memory_bytes = sum(sorted((one["memory_limit"] or float("inf") for one in workers), reverse=True)[:ranks])
    gpus = sum("name" in (one.get("gpu") or {}) for one in workers)
    short = [
        f"{want:g} {unit} of {have:.3g}"
        for want, have, unit in (
            (resources.cpus, threads, "threads"),
            (resources.memory_gib, memory_bytes / 2**30, "GiB of memory"),
            (resources.gpus, min(gpus, ranks), "GPUs"),
        )
        if want is not None and want > have
    ]
    if short:
        raise Unavailable(
            f"the preset asks for more than {ranks} workers of the cluster at {address} have: "
            + ", ".join(short),
            where="resources",
            allowed="a preset that grants no more, or one that leaves it open",
            mend="take a smaller preset, or start workers with more (--nthreads, --memory-limit)",
        )


def _require_gpu_packages(block: DaskCluster) -> None:
    """Check that there is what Dask-CUDA workers need on this host."""
    needed = {
        "dask_cuda": "Dask-CUDA workers need dask-cuda (the extra 'gpu'), or set gpu_workers to 0",
        **({"rmm": "managed_memory needs rmm"} if block.managed_memory else {}),
        **({"distributed_ucxx": "ucx needs distributed-ucxx"} if block.protocol == "ucx" else {}),
    }
    missing = [reason for name, reason in needed.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise Unavailable(
            f"a package is not installed: {'; '.join(missing)}",
            where=BLOCK,
            mend="install it beside the flows, or change the block",
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

    block = dask_cluster(site)
    cpus = resources.cpus or (None if block.address else len(os.sched_getaffinity(0)))
    gang = Gang(
        num_ranks=config.num_ranks,
        launcher=launcher.get(config.launcher),
        min_ranks=config.min_ranks,
        ranks_per_host=config.ranks_per_host,
        threads=max(1, cpus // config.num_ranks) if cpus else None,
    )
    starting = block.rank_client(config.num_ranks, _gpus(block, resources, there_is))
    with reached(block, starting) as client:
        yield OnRanks(gang, client, log)


@dataclass(frozen=True)
class OnRanks:
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


def _gpus(block: DaskCluster, resources: Resources, there_is: Resources) -> int:
    """GPUs of this host that get a worker for ranks; none where the preset grants none."""
    there = min(one for one in (there_is.gpus or 0, resources.gpus) if one is not None)
    return there if block.gpu_workers is None else min(there, block.gpu_workers)


def _installed_gpus() -> int:
    """All of this host's; a job may see those alone that it was given."""
    try:
        return len(os.listdir("/proc/driver/nvidia/gpus"))
    except OSError:
        return 0
