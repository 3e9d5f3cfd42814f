"""Batches of an epoch: which rows, in which order, how varied, and ready before the network asks."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.train.loop.ahead import ahead
from tasks.train.loop.augmentation import Augmentation
from tasks.train.loop.mixing import Mixing
from tasks.train.loop.objective import Targets
from tasks.train.loop.seeds import mixed
from tasks.train.loop.world import World
from tasks.train.models.network import Scale

_ORDER, _VARIATION, _MIXING = range(3)
"""What random numbers are for: each has its own."""


@dataclass(frozen=True)
class TensorRows:
    """Rows of a split.

    Attributes:
        inputs: uint8 `[n, h, w, c]`, in memory or mapped from a file, or float32 `[n, features]`, scaled.
        labels: int64 `[n]`, or float32 `[n]` scaled to mean 0 and deviation 1.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Batches:
    """How a rank's batches are made of a split.

    All random choices follow from (seed, epoch, step, rank), and one thread makes the batches in their
    order: neither timing nor a resumption in the middle of an epoch changes them.

    Attributes:
        rows: The split.
        batch_size: Rows of a batch.
        scale: Makes network inputs of images; inputs of tables are scaled already.
        device: Where batches are wanted.
        seed: Start of the random choices.
        world: This rank's place.
        accumulation_steps: Batches whose gradients make one step of the optimiser.
        augmentation: Varies images.
        mixing: Blends images.
    """

    rows: TensorRows
    batch_size: int
    scale: Scale
    device: torch.device
    seed: int
    world: World
    accumulation_steps: int = 1
    augmentation: Augmentation | None = None
    mixing: Mixing | None = None

    @property
    def rows_a_step(self) -> int:
        """Rows that all ranks together take in one step of the optimiser."""
        return self.batch_size * self.accumulation_steps * self.world.size

    @property
    def steps(self) -> int:
        """Steps of an epoch: the same number of full batches on every rank, at least one."""
        return max(1, len(self.rows) // self.rows_a_step)

    def steps_from(self, taken: int) -> int:
        """Steps of an epoch of which some rows are taken already, perhaps by another number of ranks."""
        return max(0, len(self.rows) - taken) // self.rows_a_step if taken else self.steps

    def of_epoch(
        self, epoch: int, first: int = 0, taken: int = 0
    ) -> Generator[tuple[Tensor, Targets], None, None]:
        """This rank's training batches of an epoch, `accumulation_steps` of them a step.

        All ranks shuffle alike and take every `size`-th row, so that what they have taken together is
        always the start of the same order, however many they are; rows that fill no batch wait for
        another epoch.

        Args:
            epoch: From 0.
            first: The step of the epoch to begin with, for the random choices.
            taken: Rows of the epoch that all ranks together have taken before.
        """
        shuffle = torch.Generator().manual_seed(mixed(self.seed, epoch, _ORDER))
        order = torch.randperm(len(self.rows), generator=shuffle)[taken:]
        chosen = torch.split(order[self.world.rank :: self.world.size], self.batch_size)
        count = self.steps_from(taken) * self.accumulation_steps
        begin = first * self.accumulation_steps
        return self._ready(
            self._varied(rows, epoch, number) for number, rows in enumerate(chosen[:count], begin)
        )

    def in_order(self) -> Generator[tuple[Tensor, Targets], None, None]:
        """This rank's share of the rows, each once, unvaried: for validation."""
        mine = torch.arange(self.world.rank, len(self.rows), self.world.size)
        return self._ready(self._plain(chosen) for chosen in torch.split(mine, self.batch_size))

    def _ready(
        self, batches: Iterator[tuple[Tensor, Targets]]
    ) -> Generator[tuple[Tensor, Targets], None, None]:
        if self.rows.inputs.ndim == 4:
            return ahead(batches)
        return (batch for batch in batches)  # a table's batch costs less than handing it over

    def _plain(self, chosen: Tensor) -> tuple[Tensor, Targets]:
        return self._scaled(self._on_device(self.rows.inputs, chosen)), Targets(
            self._on_device(self.rows.labels, chosen)
        )

    def _varied(self, chosen: Tensor, epoch: int, number: int) -> tuple[Tensor, Targets]:
        inputs = self._on_device(self.rows.inputs, chosen)
        targets = Targets(self._on_device(self.rows.labels, chosen))
        about = (self.seed, epoch, number, self.world.rank)
        if self.augmentation is not None:
            generator = torch.Generator().manual_seed(mixed(*about, _VARIATION))
            inputs = self.augmentation(inputs, generator)
        if self.mixing is not None:
            inputs, targets = self.mixing(inputs, targets.labels, mixed(*about, _MIXING))
        return self._scaled(inputs), targets

    def _on_device(self, tensor: Tensor, chosen: Tensor) -> Tensor:
        taken = tensor.index_select(0, chosen)  # far quicker than indexing for whole images
        if self.device.type == "cuda":
            return taken.pin_memory().to(self.device, non_blocking=True)
        return taken

    def _scaled(self, inputs: Tensor) -> Tensor:
        return self.scale.apply(inputs) if inputs.ndim == 4 else inputs
