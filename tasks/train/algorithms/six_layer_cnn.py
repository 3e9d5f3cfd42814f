"""A plain convolutional network: three blocks of two convolutions each."""

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


class SixLayerCnnHyperparameters(ImageHyperparameters):
    """Settings of the six-layer network."""

    width: int = Field(
        default=16,
        ge=4,
        le=512,
        description="Channels of the first block; later ones have 3 and 6 times as many.",
    )
    dropout: Dropout = 0.1


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

        from tasks.train.networks.convolutions import mean_classified, normalised

        assert isinstance(settings, SixLayerCnnHyperparameters)
        height, width, channels = input_shape
        self.refuse_small_images(height, width, mend="preprocess with a larger size")
        layers: list[nn.Module] = []
        before = channels
        for after in (settings.width, 3 * settings.width, 6 * settings.width):
            layers += [*normalised(before, after), *normalised(after, after, pooled=True)]
            before = after
        return nn.Sequential(*layers, *mean_classified(before, outputs, settings.dropout))


ALGORITHMS = (SixLayerCnn(),)
