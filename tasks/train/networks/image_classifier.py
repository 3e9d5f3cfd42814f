"""A transformers image classifier as a plain network: images in, logits out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ImageClassifier(nn.Module):
    """Brings images to the size that a model takes, and gives its logits.

    The resizing is part of the network, so it travels with the weights to wherever the model is used.

    Args:
        model: A `...ForImageClassification` of transformers.
        side_px: Side that images are resized to, by bilinear interpolation that averages what it shrinks;
            None leaves them as they come.
        multiple_px: Sides are filled up with zeros, which is the mean colour, to a multiple of this.
    """

    def __init__(self, model: PreTrainedModel, side_px: int | None, multiple_px: int = 1) -> None:
        super().__init__()
        self.model = model
        self.side_px = side_px
        self.multiple_px = multiple_px

    def sized(self, images: Tensor) -> Tensor:
        """Images as the model takes them.

        Args:
            images: float32 `[n, c, h, w]`.
        """
        if self.side_px is not None and images.shape[2:] != (self.side_px, self.side_px):
            size = (self.side_px, self.side_px)
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
            images = images.contiguous(memory_format=torch.channels_last)
        more_rows, more_columns = (-side % self.multiple_px for side in images.shape[2:])
        if more_rows or more_columns:
            left, top = more_columns // 2, more_rows // 2
            images = functional.pad(images, (left, more_columns - left, top, more_rows - top))
        return images

    def forward(self, images: Tensor) -> Tensor:
        """Score images.

        Args:
            images: float32 `[n, c, h, w]`, scaled.

        Returns:
            Logits `[n, outputs]`.
        """
        logits: Tensor = self.model(pixel_values=self.sized(images)).logits
        return logits


def initialise_convolutions_(network: nn.Module) -> None:
    """Start a convolutional network with batch normalisation as its authors did, in place.

    transformers prepares EfficientNet and MobileNetV2 for pretrained weights: all weights, those of the
    normalisations too, start near 0, and running statistics remember only the last batch (Keras' and
    torch's momenta are each other's complement). From random weights neither learns. Convolutions here
    follow He et al., Delving Deep into Rectifiers (2015), and the last layer is small.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            outputs = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / outputs))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
            module.momentum = 0.1
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
