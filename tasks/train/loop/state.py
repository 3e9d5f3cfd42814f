"""Everything that changes while the loop runs: what a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tasks.train.algorithms.fit import Metrics
from tasks.train.loop.communicators.communicator import Communicator, in_one_message


@dataclass
class TrainingState:
    """Where a training stands. Random numbers follow from epoch and step; so does the learning rate.

    Attributes:
        network: The network in training.
        optimiser: Its optimiser.
        averaged: The running mean of its weights; None where none is kept.
        epoch: Finished epochs.
        step: Steps done of the epoch that is running; 0 between epochs.
        rows_taken: Rows of the running epoch that all ranks together have taken.
        steps_done: Optimiser steps since the training began.
        sums: Of the running epoch: plain loss, score and rows of this rank, float64 `[3]`.
        epoch_elapsed_s: Time spent in the running epoch.
        history: Metrics of the finished epochs.
        best_epoch: Epoch with the lowest watched loss, from 1; 0 before the first.
        best_weights: A copy of the kept network's state at that epoch.
        elapsed_s: Time spent in the loop, in this process and in those before it.
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    averaged: nn.Module | None = None
    epoch: int = 0
    step: int = 0
    rows_taken: int = 0
    steps_done: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    epoch_elapsed_s: float = 0.0
    history: list[Metrics] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    elapsed_s: float = 0.0

    @property
    def kept(self) -> nn.Module:
        """The network that is watched and kept: the mean of the weights where there is one."""
        return self.network if self.averaged is None else self.averaged

    def networks(self) -> list[nn.Module]:
        """The network, and the mean of its weights where there is one."""
        return [self.network] if self.averaged is None else [self.network, self.averaged]

    def start_alike_(self, communicator: Communicator) -> None:
        """Give every rank the weights of rank 0."""
        if communicator.world.size == 1:
            return
        tensors = [tensor for network in self.networks() for tensor in network.state_dict().values()]
        in_one_message(communicator.broadcast_, tensors)

    def bring_together_(self, communicator: Communicator) -> None:
        """Give every rank the mean of what each gathered on its own rows: sums, running statistics.

        The statistics are sums over steps, so their mean may be taken at any step without changing where
        they lead.
        """
        if communicator.world.size == 1:
            return
        buffers = [b for network in self.networks() for b in network.buffers() if b.is_floating_point()]
        in_one_message(communicator.average_, [self.sums, *buffers])

    def spend(self, time_s: float) -> None:
        """Count time of the running epoch."""
        self.elapsed_s += time_s
        self.epoch_elapsed_s += time_s

    def begin_epoch(self) -> None:
        """Set what belongs to one epoch back."""
        self.step = 0
        self.rows_taken = 0
        self.sums = torch.zeros_like(self.sums)
        self.epoch_elapsed_s = 0.0
