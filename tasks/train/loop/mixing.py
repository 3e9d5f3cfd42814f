"""Blends of two training images with the labels of both.

mixup: Zhang et al. 2018, arXiv:1710.09412. CutMix: Yun et al. 2019, arXiv:1905.04899.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.train.loop.objective import Targets


@dataclass(frozen=True)
class Mixing:
    """Mixes each batch with a shuffled copy of itself, one way or the other where both are asked for.

    Attributes:
        mixup_alpha: Of the Beta distribution of mixup's shares; 0 is off.
        cutmix_alpha: Of the Beta distribution of CutMix's areas; 0 is off.
    """

    mixup_alpha: float
    cutmix_alpha: float

    def __call__(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Targets]:
        """Mix a batch.

        Args:
            images: uint8 `[n, h, w, c]`.
            labels: int64 `[n]`.
            seed: Start of the random choices.

        Returns:
            uint8 `[n, h, w, c]`, and what they are pictures of.
        """
        draw = random.Random(seed)
        others = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        others = others.to(images.device)
        cut = self.cutmix_alpha > 0 and (self.mixup_alpha == 0 or draw.random() < 0.5)
        if cut:
            images, share = _paste(
                images, others, draw, draw.betavariate(self.cutmix_alpha, self.cutmix_alpha)
            )
        else:
            share = draw.betavariate(self.mixup_alpha, self.mixup_alpha)
            mixed = torch.lerp(images[others].to(torch.float32), images.to(torch.float32), share)
            images = mixed.round_().to(torch.uint8)
        return images, Targets(labels, labels[others], share)


def _paste(images: Tensor, others: Tensor, draw: random.Random, kept: float) -> tuple[Tensor, float]:
    """Paste one rectangle of the other images; returns the images and the share that is really kept."""
    _, height, width, _ = images.shape
    side = (1 - kept) ** 0.5
    middle_y, middle_x = draw.random() * height, draw.random() * width
    top, bottom = (_within(middle_y + sign * side * height / 2, height) for sign in (-1, 1))
    left, right = (_within(middle_x + sign * side * width / 2, width) for sign in (-1, 1))
    pasted = images.clone()
    pasted[:, top:bottom, left:right] = images[others, top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)


def _within(place: float, side: int) -> int:
    return min(max(round(place), 0), side)
