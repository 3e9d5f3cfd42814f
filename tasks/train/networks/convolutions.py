"""What the small convolutional networks are built of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def normalised(before: int, after: int, *, stride: int = 1, pooled: bool = False) -> list[nn.Module]:
    """A 3 x 3 convolution, normalised, then rectified.

    Args:
        before: Channels that come in.
        after: Channels that go out.
        stride: Of the convolution.
        pooled: Halve the sides by the largest of four, before they are normalised: a quarter of the
            numbers for the same features.
    """
    return [
        # The normalisation that follows has the biases.
        nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False),
        *([nn.MaxPool2d(2)] if pooled else []),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]


def mean_classified(channels: int, outputs: int, dropout: float) -> list[nn.Module]:
    """The mean of each feature over the picture, float `[n, channels]`, and from it float `[n, outputs]`.

    Args:
        channels: Features that come in.
        outputs: Numbers that go out.
        dropout: Share of the features that is left out in training.
    """
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, outputs)]


class ResidualPair(nn.Module):
    """Two 3 x 3 convolutions whose result is added to what came in (He et al. 2015)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*normalised(channels, channels))
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.normalisation = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Refine float `[n, channels, h, w]`; the same shape comes back."""
        change = self.normalisation(self.second(self.first(features)))
        return functional.relu(features + change, inplace=True)
