"""Ranks on Dask-CUDA workers, one a GPU, with NCCL between them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client

from blocks.dask_cluster import DaskCluster
from tasks.train.algorithms.fit import FitContext
from tasks.train.ranks import launcher
from tasks.train.ranks.gang import Gang, launch
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


@pytest.fixture(scope="module")
def client(gpus: int) -> Iterator[Client]:
    with DaskCluster().rank_client(gpus, gpus) as client:
        client.wait_for_workers(gpus, timeout=120)
        yield client


@pytest.mark.parametrize("name", LAUNCHERS)
def test_each_rank_has_a_gpu_of_its_own(client: Client, gpus: int, name: str) -> None:
    found = launch(on_ranks.devices, Gang(gpus, launcher.get(name)), client)
    assert len(set(found)) == gpus
    assert all(one.startswith("cuda:") for one in found)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_sum_of_all_ranks_is_exact(client: Client, gpus: int, name: str) -> None:
    mean = launch(on_ranks.mean_on_gpu, Gang(gpus, launcher.get(name)), client)
    assert mean == pytest.approx((gpus - 1) / 2)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ranks_on_gpus_train_as_one_process_does(client: Client, gpus: int, name: str) -> None:
    alone = on_ranks.weights_of(320 * gpus, 32 * gpus, 50, {}, FitContext(seed=7, gpus=0))
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


def test_a_gpu_trains_more_images_a_second_than_the_processor(gpus: int) -> None:
    from tests.helpers.striped import fit_striped, striped

    data = striped(rows=2048, side_px=64)
    settings = {"width": 32, "epochs": 3, "batch_size_per_rank": 256, "precision": "auto"}
    on_gpu = fit_striped(data, FitContext(gpus=1), **settings)
    on_processor = fit_striped(data, FitContext(gpus=0), **settings)
    rates = [fit.history[-1]["rows_per_s"] for fit in (on_gpu, on_processor)]
    print(f"\nimages a second: {rates[0]:,.0f} on the GPU, {rates[1]:,.0f} on the processor")
    assert rates[0] > 3 * rates[1]
