"""Presets of resources against what the host has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from blocks.resource_presets import usual_presets
from tasks.errors import InvalidSettings, Unavailable
from tasks.train.loop.fit import device_for
from tasks.train.loop.world import World
from tasks.train.own_code.config import Limits, OwnCode
from tasks.train.own_code.contract import Folders, environment
from tasks.train.own_code.trainer import within
from tasks.train.resources import Resources, choose, host

PRESETS = {name: Resources(**preset.model_dump()) for name, preset in usual_presets().items()}
SMALL = Resources(cpus=2, memory_gib=7.7, gpus=0)


def test_a_preset_that_fits_is_granted() -> None:
    assert choose("cpu-2", PRESETS, SMALL) == Resources(cpus=2, memory_gib=4, gpus=0)
    assert choose("auto", PRESETS, SMALL) == Resources()


def test_more_than_there_is_is_refused_with_the_numbers() -> None:
    with pytest.raises(Unavailable) as refused:
        choose("cpu-4", PRESETS, SMALL)
    text = str(refused.value)
    assert "4 processors of 2, 16 GiB of memory of 7.7" in text
    assert "Allowed: auto, cpu-1, cpu-2." in text
    with pytest.raises(Unavailable, match="1 GPUs of 0"):
        choose("gpu-1", PRESETS, Resources(cpus=64, memory_gib=512, gpus=0))


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidSettings, match="did you mean 'cpu-2'") as refused:
        choose("cpu2", PRESETS, SMALL)
    assert "gpu-1: 4 processors, 16 GiB, 1 GPU" in str(refused.value)


def test_the_host_says_what_it_has() -> None:
    found = host()
    assert found.cpus is not None
    assert found.cpus >= 1
    assert found.memory_gib is not None
    assert found.memory_gib > 0.5


@pytest.mark.parametrize(
    ("gpus", "has_gpu", "where"),
    [(0, True, "cpu"), (None, True, "cuda:1"), (2, True, "cuda:1"), (None, False, "cpu"), (1, False, "cpu")],
)
def test_a_preset_without_gpus_stays_on_the_processor(gpus: int | None, has_gpu: bool, where: str) -> None:
    world = World(rank=1, size=2, local_rank=1)
    assert device_for(gpus, world, has_gpu) == torch.device(where)


@pytest.mark.parametrize(("gpus", "told"), [(0, ""), (None, "7"), (1, "7")])
def test_own_code_sees_no_gpu_where_the_preset_has_none(gpus: int | None, told: str, tmp_path: Path) -> None:
    own = OwnCode(source="/code", variables={"CUDA_VISIBLE_DEVICES": "7"})
    folders = Folders(tmp_path, tmp_path / "checkpoints")
    given = environment(own, {}, folders, {}, "train.py", Path("/bin/python"), 0, None, gpus, "", {})
    assert given["CUDA_VISIBLE_DEVICES"] == told


@pytest.mark.parametrize(
    ("of_code", "of_preset", "held_to"),
    [(8, 4, 4), (2, 4, 2), (None, 4, 4), (2, None, 2), (None, None, None)],
)
def test_own_code_is_held_to_the_smaller_memory(
    of_code: float | None, of_preset: float | None, held_to: float | None
) -> None:
    own = OwnCode(source="/code", limits=Limits(memory_gib=of_code))
    assert within(own, Resources(memory_gib=of_preset)).limits.memory_gib == held_to
