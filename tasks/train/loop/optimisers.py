"""The optimisers."""

from __future__ import annotations

import torch
from torch import nn


def optimiser(
    name: str, network: nn.Module, learning_rate: float, weight_decay: float, momentum: float
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), or SGD with Nesterov's momentum.

    Weights decay; biases and the scales of normalisations, which have one dimension, do not.

    Args:
        name: `adamw` or `sgd`.
        network: Whose parameters are optimised.
        learning_rate: The highest; the loop sets each step's own.
        weight_decay: Of the weights.
        momentum: Of sgd.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # Fused: one pass over all parameters instead of a dozen operations on each.
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
