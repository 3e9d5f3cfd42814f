"""A running mean of the weights, which is often better than the last ones.

Polyak and Juditsky 1992; as an exponential mean in Tarvainen and Valpola 2017, arXiv:1703.01780.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def averaged_copy(network: nn.Module) -> nn.Module:
    """A network to hold the mean: a copy that is never trained itself."""
    averaged = copy.deepcopy(network).eval()
    for parameter in averaged.parameters():
        parameter.requires_grad_(False)
    return averaged


@torch.no_grad()
def average_in_(averaged: nn.Module, network: nn.Module, decay: float, steps_done: int) -> None:
    """Move the mean a little towards the network.

    The running statistics of batch normalisations are averaged alike, so that they belong to the mean
    weights; counters are copied. Early on the decay is smaller, (1 + steps) / (10 + steps), so that the
    random weights of the start are soon forgotten.

    Args:
        averaged: Changed in place.
        network: After its step.
        decay: Share of the old mean that stays at each step.
        steps_done: Steps of the training, this one included.
    """
    weight = 1 - min(decay, (1 + steps_done) / (10 + steps_done))
    pairs: list[tuple[Tensor, Tensor]] = list(zip(averaged.parameters(), network.parameters(), strict=True))
    pairs += zip(averaged.buffers(), network.buffers(), strict=True)
    moving = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_([mean for mean, _ in moving], [value for _, value in moving], weight)
    for mean, value in pairs:
        if not mean.is_floating_point():
            mean.copy_(value)
