"""More workers, GPUs, processors or memory than there are: refused within seconds, with the numbers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed.system import MEMORY_LIMIT
from prefect import flow

from blocks.dask_cluster import DaskCluster
from blocks.docs_site import DocsSite
from blocks.object_store import ObjectStore
from blocks.resource_presets import Preset, ResourcePresets
from tasks.cluster import dask_client, dask_cluster
from tasks.data.config import PreprocessConfig
from tasks.data.storage.store import DatasetStore
from tasks.data.task import preprocess_dataset
from tasks.errors import InvalidSettings, Unavailable
from tasks.train.config import TrainConfig
from tasks.train.ranks.site import require_ranks
from tasks.train.resources import ALL_THERE_IS, Resources, host
from tasks.train.site import site_faults
from tests.helpers.dask_clusters import DaskProcesses
from tests.helpers.trained import iris_dataset

SITE = "cluster-refusals"
PROCESSORS = len(os.sched_getaffinity(0))
MOST_S = 5.0
TWO = TrainConfig(algorithm="mlp", num_ranks=2)


@contextmanager
def refused(match: str, *, with_run: bool = False) -> Iterator[None]:
    """Refused with these words, and soon.

    Args:
        match: The words.
        with_run: Whether a flow run is made, which takes a while by itself.
    """
    began = time.monotonic()
    with pytest.raises(Unavailable, match=match) as caught:
        yield
    took_s = time.monotonic() - began
    print(f"\nrefused after {took_s:.2f} s: {caught.value}")
    assert took_s < MOST_S + (5 if with_run else 0)


def test_more_workers_than_processors() -> None:
    DaskCluster(n_workers=PROCESSORS + 62).save(SITE, overwrite=True)
    with (
        refused(rf"{PROCESSORS + 62} workers are asked for, and this host has {PROCESSORS} processor"),
        dask_client(SITE),
    ):
        pass


def test_more_memory_than_there_is_for_preprocessing(tmp_path: Path) -> None:
    @flow
    def prepare() -> None:
        preprocess_dataset(ref, PreprocessConfig(), SITE)

    ObjectStore(url=str(tmp_path / "store")).save(SITE, overwrite=True)
    DocsSite(folder=str(tmp_path / "docs"), url="http://127.0.0.1:1/").save(SITE, overwrite=True)
    ref = iris_dataset(DatasetStore(str(tmp_path / "store")))
    each = f"{2 * MEMORY_LIMIT // 2**20}MiB"
    DaskCluster(n_workers=1, memory_limit=each).save(SITE, overwrite=True)
    with refused(
        r"GiB of memory are asked for, .* GiB for each of 1 worker, and this host has .* GiB", with_run=True
    ):
        prepare()


@pytest.mark.skipif(PROCESSORS < 2, reason="ranks need two processors")
def test_ranks_with_more_memory_than_the_host_has() -> None:
    DaskCluster(n_workers=2, memory_limit="0.8").save(SITE, overwrite=True)
    with refused(r"GiB of memory are asked for, .* GiB for each of 2 workers, and this host has"):
        require_ranks(TWO, SITE, ALL_THERE_IS, host())
    DaskCluster(n_workers=2, memory_limit="0.5").save(SITE, overwrite=True)
    require_ranks(TWO, SITE, ALL_THERE_IS, host())


def test_more_gpu_workers_than_gpus() -> None:
    DaskCluster(gpu_workers=4).save(SITE, overwrite=True)
    with refused("4 GPU workers are asked for, and this host has 3 GPUs.*at most 3"):
        require_ranks(TWO, SITE, ALL_THERE_IS, Resources(cpus=16, memory_gib=64, gpus=3))
    with refused("4 GPU workers are asked for, and this host has 0 GPUs"):
        require_ranks(TWO, SITE, ALL_THERE_IS, Resources(cpus=16, memory_gib=64, gpus=0))
    DaskCluster().save(SITE, overwrite=True)
    with refused("2 ranks are asked for, and this host has 1 GPU for ranks"):
        require_ranks(TWO, SITE, Resources(gpus=1), Resources(cpus=16, memory_gib=64, gpus=8))


def test_what_the_workers_of_a_running_scheduler_have(tmp_path: Path) -> None:
    options = ("--nthreads=1", "--memory-limit=512MiB")
    with DaskProcesses(tmp_path, 2, options=options) as dask:
        DaskCluster(address=dask.address).save(SITE, overwrite=True)
        ask = TrainConfig(algorithm="mlp", num_ranks=5)
        with refused(r"5 workers are asked for, and the cluster at .* has 2 after 3 s.*at most 2"):
            require_ranks(ask, SITE, ALL_THERE_IS, host())
        with refused(r"2 workers of the cluster at .* have: 8 threads of 2, 3 GiB of memory of 1"):
            require_ranks(TWO, SITE, Resources(cpus=8, memory_gib=3), host())
        with refused(r"2 GPUs of 0"):
            require_ranks(TWO, SITE, Resources(gpus=2), host())
        require_ranks(TWO, SITE, Resources(cpus=2, memory_gib=1, gpus=0), host())

        # The preset is of the workers' hosts: it need not fit into this one.
        presets = {"auto": Preset(), "large": Preset(cpus=1000, memory_gib=9000, gpus=64)}
        ResourcePresets(presets=presets).save(SITE, overwrite=True)
        large = TrainConfig(algorithm="mlp", num_ranks=2, resources="large")
        with refused("1000 threads of 2, 9000 GiB of memory of 1, 64 GPUs of 0"):
            (fault,) = site_faults(large, SITE)
            raise fault


def test_a_scheduler_that_does_not_answer() -> None:
    DaskCluster(address="tcp://127.0.0.1:9").save(SITE, overwrite=True)
    with refused("No Dask scheduler answers at tcp://127.0.0.1:9"), dask_client(SITE):
        pass
    with refused("No Dask scheduler answers at tcp://127.0.0.1:9"):
        require_ranks(TWO, SITE, ALL_THERE_IS, host())


def test_a_block_that_cannot_be_is_told_when_it_is_loaded() -> None:
    values = DaskCluster().model_dump() | {"nvlink": True, "memory_limit": "plenty"}
    DaskCluster.model_construct(**values).save(SITE, overwrite=True)  # as the Prefect pages save it
    with pytest.raises(InvalidSettings) as caught:
        dask_cluster(SITE)
    assert "nvlink needs ucx as protocol" in str(caught.value)
    assert "memory_limit 'plenty' is no amount of memory" in str(caught.value)
    assert f"the block Dask Cluster, '{SITE}'" in str(caught.value)
