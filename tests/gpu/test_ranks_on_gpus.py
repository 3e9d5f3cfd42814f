"""Ranks on Dask-CUDA workers, one a GPU, with NCCL between them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client

from blocks.dask_cluster import DaskCluster
from tasks.errors import Unavailable
from tasks.train.algorithms.fit import FitContext
from tasks.train.ranks import launcher
from tasks.train.ranks.gang import Gang, launch
from tasks.train.ranks.site import require_here
from tasks.train.resources import ALL_THERE_IS, host
from tests.helpers import on_ranks

pytestmark = pytest.mark.gpu


def _with_nccl(name: str) -> Any:
    """A launcher, if it has NCCL: for Horovod see `python -m infra.horovod.build --gpu-operations nccl`."""
    reason = ""
    if name == "horovod":
        try:
            import horovod.torch as hvd

            reason = "" if hvd.nccl_built() else "this Horovod is built without NCCL"
        except ImportError:
            reason = "Horovod is not installed"
    return pytest.param(name, marks=pytest.mark.skipif(bool(reason), reason=reason))


LAUNCHERS = [_with_nccl("torch"), _with_nccl("horovod")]


def _gang(name: str, ranks: int) -> Gang:
    return Gang(ranks, launcher.get(name))


@pytest.fixture(scope="module")
def client(gpus: int) -> Iterator[Client]:
    pytest.importorskip("dask_cuda", reason="dask-cuda is not installed: it is in the extra 'gpu'")
    with DaskCluster(start_timeout_s=180, device_memory_limit="0.5").rank_client(gpus, gpus) as client:
        yield client


def test_each_dask_cuda_worker_has_a_gpu_of_its_own_and_its_limit(client: Client, gpus: int) -> None:
    visible = client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).values()
    first = [one.split(",")[0] for one in visible]
    assert len(set(first)) == len(first) == gpus
    kept = client.run(lambda dask_worker: type(dask_worker.data).__name__)
    assert set(kept.values()) == {"DeviceHostFile"}  # which moves data from the GPU at device_memory_limit
    described = client.scheduler_info(n_workers=-1)["workers"].values()
    assert all("name" in one["gpu"] for one in described)  # what presets are compared with


def test_more_ranks_than_gpus_are_refused_with_the_numbers(gpus: int) -> None:
    with pytest.raises(Unavailable, match=f"{gpus + 1} ranks are asked for, and this host has {gpus} GPU"):
        require_here(DaskCluster(), gpus + 1, ALL_THERE_IS, host())


@pytest.mark.parametrize("name", LAUNCHERS)
def test_each_rank_has_a_gpu_of_its_own(client: Client, gpus: int, name: str) -> None:
    found = launch(on_ranks.devices, Gang(gpus, launcher.get(name)), client)
    assert len(set(found)) == gpus
    assert all(one.startswith("cuda:") for one in found)


def test_torch_takes_nccl_between_gpus(client: Client, gpus: int) -> None:
    assert "cuda:nccl" in launch(on_ranks.backends, Gang(gpus, launcher.get("torch")), client)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_sum_of_all_ranks_is_exact(client: Client, gpus: int, name: str) -> None:
    mean = launch(on_ranks.mean_on_gpu, Gang(gpus, launcher.get(name)), client)
    assert mean == pytest.approx((gpus - 1) / 2)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ranks_on_gpus_train_as_one_process_does(client: Client, gpus: int, name: str) -> None:
    alone = on_ranks.weights_of(320 * gpus, 32 * gpus, 50, {}, FitContext(seed=7, gpus=1))
    work = partial(on_ranks.fit_rows, 320 * gpus, 32, 50, {})
    together = launch(work, Gang(gpus, launcher.get(name)), client)
    for key, value in alone.items():
        np.testing.assert_allclose(together[key], value, rtol=0, atol=1e-4, err_msg=key)


def test_mixed_precision_is_taken_and_learns(gpus: int) -> None:
    from tests.helpers.striped import fit_striped

    fit = fit_striped(precision="auto", epochs=8)
    assert fit.history[-1]["train_loss"] < 0.7 * fit.history[0]["train_loss"]
    if torch.cuda.is_bf16_supported(including_emulation=False):
        from tasks.refs import Problem
        from tasks.train.loop.precision import autocast_type

        chosen = autocast_type("auto", Problem.IMAGE_CLASSIFICATION, torch.device("cuda"))
        assert chosen is torch.bfloat16


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ranks_learn_with_mixed_precision_and_compressed_gradients(
    client: Client, gpus: int, name: str
) -> None:
    changes = {"precision": "bfloat16", "gradient_compression": "float16", "epochs": 8}
    history = launch(partial(on_ranks.fit_history, 96 * gpus, 8, changes), _gang(name, gpus), client)
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ranks_on_all_gpus_train_more_images_a_second_than_one(client: Client, gpus: int, name: str) -> None:
    if gpus < 2:
        pytest.skip("this host has one GPU")
    changes = {"width": 32, "epochs": 4, "batch_size_per_rank": 256, "precision": "auto"}
    rates = []
    for ranks in (1, gpus):
        work = partial(on_ranks.fit_history, 4096 * ranks, 64, changes)
        rates.append(launch(work, _gang(name, ranks), client)[-1]["rows_per_s"])
    share = rates[1] / rates[0] / gpus
    print(
        f"\n{name}: {rates[0]:,.0f} images a second on one GPU, {rates[1]:,.0f} on {gpus}, {share:.2f} each"
    )
    assert share > 0.6


def test_a_gpu_trains_more_images_a_second_than_the_processor(gpus: int) -> None:
    from tests.helpers.striped import fit_striped, striped

    data = striped(rows=2048, side_px=64)
    settings = {"width": 32, "epochs": 3, "batch_size_per_rank": 256, "precision": "auto"}
    on_gpu = fit_striped(data, FitContext(gpus=1), **settings)
    on_processor = fit_striped(data, FitContext(gpus=0), **settings)
    rates = [fit.history[-1]["rows_per_s"] for fit in (on_gpu, on_processor)]
    print(f"\nimages a second: {rates[0]:,.0f} on the GPU, {rates[1]:,.0f} on the processor")
    assert rates[0] > 3 * rates[1]
