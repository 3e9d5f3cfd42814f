"""Memory of one step serves the next, and goes back to the kernel at the end."""

from __future__ import annotations

import resource

import psutil
import torch

from tasks.train.loop.memory import reused_memory

BLOCK_BYTES = 64 * 1024 * 1024
STEPS = 8


def page_faults_of_steps() -> int:
    """Pages that the kernel had to give while a large block was taken and freed some times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(STEPS):
        torch.empty(BLOCK_BYTES, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_large_blocks_are_taken_from_the_kernel_once() -> None:
    anew = page_faults_of_steps()
    assert anew > STEPS
    with reused_memory():
        page_faults_of_steps()
        assert page_faults_of_steps() < anew / STEPS


def test_memory_goes_back_at_the_end() -> None:
    process = psutil.Process()
    with reused_memory():
        page_faults_of_steps()
        held = process.memory_info().rss
    assert process.memory_info().rss < held - BLOCK_BYTES / 2
