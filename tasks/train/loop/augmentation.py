"""Random variations of training images, made on whole batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Augmentation(Protocol):
    """Varies a batch; all randomness comes from the generator."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Vary uint8 `[n, h, w, c]` images; returns the same shape."""
        ...


@dataclass(frozen=True)
class ImageAugmentation:
    """Move, mirror, turn, zoom, brighten and blank; what is 0 costs nothing.

    What moves in at an edge repeats the edge's own pixels.

    Attributes:
        shift_px: Largest move each way, in whole pixels.
        horizontal_flip: Mirror about half of the images.
        rotation_degrees: Largest turn about the middle, either way.
        zoom_percent: Largest change of size, either way.
        brightness_percent: Largest change of brightness, and of contrast, either way.
        erase_percent: Share of the images in which a rectangle is blanked (random erasing, Zhong et al.
            2020, arXiv:1708.04896): 2 to 33 % of the area, three times as wide as high at most or the
            other way, filled with the image's mean colour.
    """

    shift_px: int = 0
    horizontal_flip: bool = False
    rotation_degrees: float = 0.0
    zoom_percent: float = 0.0
    brightness_percent: float = 0.0
    erase_percent: float = 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """See `Augmentation`."""
        if self.rotation_degrees or self.zoom_percent:
            images = self._resampled(images, generator)
        elif self.shift_px or self.horizontal_flip:
            images = self._moved(images, generator)
        if self.brightness_percent:
            images = self._brightened(images, generator)
        if self.erase_percent:
            images = self._erased(images, generator)
        return images

    def _moved(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shift and mirror without touching a value: each row and column comes from another place."""
        n, height, width, _ = images.shape
        device = images.device
        shifts = self._shifts(n, generator)
        rows = (torch.arange(height) + shifts[0][:, None]).clamp(0, height - 1)
        columns = (torch.arange(width) + shifts[1][:, None]).clamp(0, width - 1)
        mirrored = self._mirrored(n, generator)
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        each = torch.arange(n, device=device)[:, None, None]
        return images[each, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]

    def _resampled(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shift, mirror, turn and zoom at once, by linear interpolation."""
        n, height, width, _ = images.shape
        shifts = self._shifts(n, generator)
        angles = _either_way(n, generator) * math.radians(self.rotation_degrees)
        sizes = 1 + _either_way(n, generator) * self.zoom_percent / 100
        mirror = 1 - 2 * self._mirrored(n, generator).to(torch.float32)
        cosine, sine = torch.cos(angles) / sizes, torch.sin(angles) / sizes
        # From each target place, in halves of the sides (-1 to 1), to the place that it comes from.
        places = torch.stack(
            [
                torch.stack([mirror * cosine, -sine * height / width, shifts[1] * 2 / width], dim=1),
                torch.stack([mirror * sine * width / height, cosine, shifts[0] * 2 / height], dim=1),
            ],
            dim=1,
        ).to(images.device)
        grid = functional.affine_grid(places, [n, 1, height, width], align_corners=False)
        planes = images.permute(0, 3, 1, 2).to(torch.float32)
        moved = functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
        return moved.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    def _brightened(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n = len(images)
        largest = self.brightness_percent / 100
        brightness, contrast = (
            (1 + largest * _either_way(n, generator)).to(images.device)[:, None, None, None] for _ in range(2)
        )
        values = images.to(torch.float32)
        middle = values.mean(dim=(1, 2, 3), keepdim=True)
        values = values.mul_(contrast).add_(middle * (brightness - contrast))
        return values.round_().clamp_(0, 255).to(torch.uint8)

    def _erased(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, height, width, _ = images.shape
        chosen = torch.rand(n, generator=generator) < self.erase_percent / 100
        area = (0.02 + 0.31 * torch.rand(n, generator=generator)) * height * width
        wider = torch.exp(_either_way(n, generator) * math.log(3) / 2)  # the root of width through height
        high = (area.sqrt() / wider).round().clamp(1, height)
        wide = (area.sqrt() * wider).round().clamp(1, width)
        top = (torch.rand(n, generator=generator) * (height - high + 1)).floor()
        left = (torch.rand(n, generator=generator) * (width - wide + 1)).floor()
        rows, columns = torch.arange(height), torch.arange(width)
        in_rows = chosen[:, None] & (rows >= top[:, None]) & (rows < (top + high)[:, None])
        in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
        blank = (in_rows[:, :, None] & in_columns[:, None, :])[..., None].to(images.device)
        means = images.to(torch.float32).mean(dim=(1, 2), keepdim=True).round_().to(torch.uint8)
        return torch.where(blank, means, images)

    def _shifts(self, n: int, generator: torch.Generator) -> Tensor:
        """Pixels down and right that each image is read from: int64 `[2, n]`."""
        return torch.randint(-self.shift_px, self.shift_px + 1, (2, n), generator=generator)

    def _mirrored(self, n: int, generator: torch.Generator) -> Tensor:
        if not self.horizontal_flip:
            return torch.zeros(n, dtype=torch.bool)
        return torch.rand(n, generator=generator) < 0.5


def _either_way(n: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers from -1 to 1: float32 `[n]`."""
    return 2 * torch.rand(n, generator=generator) - 1
