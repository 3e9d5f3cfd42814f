"""A residual network for small images, small enough for a processor: three stages of three convolutions.

After He et al., Deep Residual Learning for Image Recognition (2015), with the layout of David Page's
ResNet-9 (How to Train Your ResNet, 2018): each stage widens, pools, and adds a block of two convolutions
to what came in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.fields import Dropout
from tasks.train.algorithms.network_algorithm import ImageHyperparameters, NetworkAlgorithm
from tasks.train.algorithms.suitability import Characteristics, Suitability, suitability

if TYPE_CHECKING:
    from torch import nn

LARGE_SIDE_PX = 64
"""Images with longer sides are halved by the first convolution."""


class SmallResNetHyperparameters(ImageHyperparameters):
    """Settings of the small residual network."""

    width: int = Field(
        default=16,
        ge=4,
        le=256,
        description="Channels of the first convolution; the stages have 2, 4 and 8 times as many.",
    )
    dropout: Dropout = 0.1


class SmallResNet(NetworkAlgorithm):
    """Ten 3 x 3 convolutions with batch normalisation and three shortcuts, then a mean over the picture."""

    name = "small_resnet"
    title = "Small ResNet"
    summary = "Ten layers with shortcuts; learns in fewer epochs than the six-layer CNN, of more work each."
    problems = frozenset({Problem.IMAGE_CLASSIFICATION})
    Hyperparameters = SmallResNetHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        "learning_rate": {"kind": "log", "low": 5e-4, "high": 2e-2},
        "weight_decay": {"kind": "log", "low": 1e-3, "high": 1e-1},
        "width": {"kind": "choice", "choices": [16, 24, 32]},
        "label_smoothing": {"kind": "float", "low": 0.0, "high": 0.2},
    }

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        if data.image_side_px > LARGE_SIDE_PX:
            return suitability(2.0, f"small, yet sees shapes in images of {data.image_side_px} pixels")
        return suitability(2.9, f"made for small images such as these of {data.image_side_px} pixels")

    def network(self, input_shape: tuple[int, ...], outputs: int, settings: AlgorithmSettings) -> nn.Module:
        """See `NetworkAlgorithm.network`."""
        from torch import nn

        from tasks.train.networks.convolutions import ResidualPair, mean_classified, normalised

        assert isinstance(settings, SmallResNetHyperparameters)
        height, width, channels = input_shape
        self.refuse_small_images(height, width, mend="preprocess with a larger size")
        before = settings.width
        layers = normalised(channels, before, stride=2 if min(height, width) > LARGE_SIDE_PX else 1)
        for after in (2 * settings.width, 4 * settings.width, 8 * settings.width):
            layers += [*normalised(before, after, pooled=True), ResidualPair(after)]
            before = after
        return nn.Sequential(*layers, *mean_classified(before, outputs, settings.dropout))


ALGORITHMS = (SmallResNet(),)
