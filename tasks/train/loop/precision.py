"""Number formats, threads and the choice of operations: what speed and repeatable sums depend on."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.train.loop.world import World

PIXELS_A_THREAD = 16_384
"""Pixels of a batch that keep one more thread busy."""


def autocast_type(precision: str, problem: Problem, device: torch.device) -> torch.dtype | None:
    """The number format of the heavy operations; None is float32.

    Args:
        precision: `auto`, `float32` or `bfloat16`.
        problem: The operations on a table are too small to gain.
        device: Where the network is.
    """
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "float32" or problem.is_table:
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else None


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """The context in which a network runs; None is float32."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def compiled(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The network's forward pass, compiled at its first call; the network itself stays as it is.

    Raises:
        InvalidSettings: This host cannot compile.
    """
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++")), None)
    if device.type == "cpu" and (compiler is None or shutil.which(compiler) is None):
        raise InvalidSettings(
            "this host has no C++ compiler, which torch.compile needs",
            where="hyperparameters",
            allowed="compile on hosts with g++ or clang++",
            mend="leave compile out, or install g++",
        )
    forward: Callable[[Tensor], Tensor] = torch.compile(network)
    return forward


def threads_for(input_shape: tuple[int, ...], batch_size: int, world: World, most: int | None) -> int:
    """Threads of each rank: its share of the processors, or fewer where steps are too small to share.

    Args:
        input_shape: Of one row; a step on a table keeps no second thread busy, nor does one on tiny images.
        batch_size: Rows of a step.
        world: The ranks.
        most: What the caller allows; None is the share of the processors.
    """
    pixels = batch_size * math.prod(input_shape[:2]) if len(input_shape) == 3 else 0
    share = most or len(os.sched_getaffinity(0)) // (world.local_size or world.size)
    return max(1, min(share, pixels // PIXELS_A_THREAD))


@contextmanager
def repeatable(threads: int, device: torch.device) -> Iterator[None]:
    """Fix what sums depend on: the number of threads and the choice of operations."""
    before = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    # On GPUs a few operations have no deterministic form: those are named in a warning there.
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # Finds operations that read what they never wrote; costs a tenth of a step on large images.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
