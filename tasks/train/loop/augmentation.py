"""Random variations of training images, made on whole batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Augmentation(Protocol):
    """Varies a batch; all randomness comes from the generator."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Vary uint8 `[n, h, w, c]` images; returns the same shape."""
        ...


@dataclass(frozen=True)
class ShiftAndFlip:
    """Move each image by up to `shift_px` pixels each way, and mirror about half of them where asked.

    What moves in at an edge repeats the edge's own pixels.
    """

    shift_px: int
    horizontal_flip: bool

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, height, width, _ = images.shape
        rows = self._places(n, height, generator)
        columns = self._places(n, width, generator)
        if self.horizontal_flip:
            mirrored = torch.rand(n, generator=generator) < 0.5
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        each = torch.arange(n)[:, None, None]
        return images[each, rows[:, :, None], columns[:, None, :]]

    def _places(self, n: int, side: int, generator: torch.Generator) -> Tensor:
        """For each image, the source index of every row or column: int64 `[n, side]`."""
        shift = torch.randint(-self.shift_px, self.shift_px + 1, (n, 1), generator=generator)
        return (torch.arange(side) + shift).clamp(0, side - 1)
