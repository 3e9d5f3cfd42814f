"""Presets of resources against what the host has."""

from __future__ import annotations

import pytest

from blocks.resource_presets import usual_presets
from tasks.errors import InvalidSettings, Unavailable
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
