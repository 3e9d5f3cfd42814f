"""The course of the learning rate: pure functions of the step, so that a resumed training needs no state.

Each is given the share of the steps after the warm-up that is done, 0 to just below 1, and gives the
share of the highest learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

LOWEST = 1e-4
"""Share of the highest learning rate that one_cycle, cosine and linear end at."""

ONE_CYCLE_START = 0.04
"""Share of the highest learning rate that one_cycle starts at."""


def cosine(progress: float) -> float:
    """Down along a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts)."""
    return max(LOWEST, (1 + math.cos(math.pi * progress)) / 2)


def linear(progress: float) -> float:
    """Straight down."""
    return max(LOWEST, 1 - progress)


def step(progress: float) -> float:
    """A tenth after one half and again after three quarters (He et al. 2016, arXiv:1512.03385, 4.2)."""
    return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01


def constant(progress: float) -> float:
    """Always the highest."""
    return 1.0


AFTER_WARMUP: Mapping[str, Callable[[float], float]] = {
    "one_cycle": cosine,
    "cosine": cosine,
    "linear": linear,
    "step": step,
    "constant": constant,
}


def share_of_highest(schedule: str, step: int, steps: int, warmup: float) -> float:
    """The share of the highest learning rate at a step.

    one_cycle (Smith and Topin 2019, arXiv:1708.07120) rises along a cosine; the others rise straight
    (Goyal et al. 2017, arXiv:1706.02677).

    Args:
        schedule: A name in `AFTER_WARMUP`.
        step: Steps taken before this one.
        steps: Steps of the whole training.
        warmup: Share of the steps in which the rate rises.
    """
    rising = warmup * steps
    if step < rising:
        risen = (step + 1) / (rising + 1)
        if schedule == "one_cycle":
            return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * (1 - math.cos(math.pi * risen)) / 2
        return risen
    return AFTER_WARMUP[schedule]((step - rising) / max(steps - rising, 1))
