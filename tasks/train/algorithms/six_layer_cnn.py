"""A plain convolutional network: three blocks of two convolutions each."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.network_algorithm import ImageHyperparameters, NetworkAlgorithm
from tasks.train.algorithms.suitability import Characteristics, Suitability, suitability

if TYPE_CHECKING:
    from torch import nn

SMALLEST_SIDE_PX = 8
"""Three poolings leave at least one pixel of this."""


class SixLayerCnnHyperparameters(ImageHyperparameters):
    """Settings of the six-layer network."""

    width: int = Field(
        default=16,
        ge=4,
        le=512,
        description="Channels of the first block; later ones have 3 and 6 times as many.",
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the features left out before the last layer."
    )


class SixLayerCnn(NetworkAlgorithm):
    """Three blocks of two 3 x 3 convolutions with batch normalisation, then a mean over the picture."""

    name = "six_layer_cnn"
    title = "Six-layer CNN"
    summary = "Small convolutional network; quick on a processor, strong on small and plain pictures."
    problems = frozenset({Problem.IMAGE_CLASSIFICATION})
    Hyperparameters = SixLayerCnnHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        "learning_rate": {"kind": "log", "low": 5e-4, "high": 2e-2},
        "weight_decay": {"kind": "log", "low": 1e-4, "high": 1e-1},
        "width": {"kind": "choice", "choices": [16, 32, 48]},
        "dropout": {"kind": "float", "low": 0.0, "high": 0.4},
    }

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        side_px = data.image_side_px
        if side_px > 64:
            return suitability(1.5, f"sees shapes, but {side_px} pixel images are large for its six layers")
        return suitability(3.0, f"made for small images such as these of {side_px} pixels")

    def network(self, input_shape: tuple[int, ...], outputs: int, settings: AlgorithmSettings) -> nn.Module:
        """See `NetworkAlgorithm.network`."""
        from torch import nn

        assert isinstance(settings, SixLayerCnnHyperparameters)
        height, width, channels = input_shape
        if min(height, width) < SMALLEST_SIDE_PX:
            raise InvalidSettings(
                f"images of {width} x {height} pixels are too small for the {self.title}",
                where="dataset",
                allowed=f"sides of at least {SMALLEST_SIDE_PX} pixels",
                mend="preprocess with a larger size",
            )
        layers: list[nn.Module] = []
        before = channels
        for after in (settings.width, 3 * settings.width, 6 * settings.width):
            layers += [
                # The normalisations that follow have the biases.
                nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
                nn.Conv2d(after, after, kernel_size=3, padding=1, bias=False),
                # Pooled before it is normalised: a quarter of the numbers for the same features.
                nn.MaxPool2d(2),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
            before = after
        layers += [
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(settings.dropout),
            nn.Linear(before, outputs),
        ]
        return nn.Sequential(*layers)


ALGORITHMS = (SixLayerCnn(),)
