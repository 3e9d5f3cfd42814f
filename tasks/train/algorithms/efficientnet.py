"""EfficientNet-B0 and B1.

Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from tasks.train.algorithms.algorithm import SearchRange
from tasks.train.algorithms.fields import Dropout, LearningRate, StochasticDepth, WeightDecay
from tasks.train.algorithms.transformers_algorithm import (
    TransformersAlgorithm,
    TransformersHyperparameters,
    omitted_steps,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STRIDES = (1, 2, 2, 2, 1, 2, 1)
REPEATS = (1, 2, 2, 3, 3, 4, 1)


class EfficientNetHyperparameters(TransformersHyperparameters):
    """Settings of the EfficientNets."""

    learning_rate: LearningRate = 4e-3
    weight_decay: WeightDecay = 0.02
    dropout: Dropout = 0.2
    stochastic_depth: StochasticDepth = 0.1


class EfficientNet(TransformersAlgorithm):
    """Inverted bottlenecks that weigh their channels, scaled in depth.

    Args:
        size: 0 or 1.
        depth: How many times as many blocks as B0 has.
        summary: What it is for.
    """

    Hyperparameters = EfficientNetHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        **TransformersAlgorithm.usual_search,
        "dropout": {"kind": "float", "low": 0.0, "high": 0.4},
    }

    def __init__(self, size: int, depth: float, summary: str) -> None:
        self.name = f"efficientnet_b{size}"
        self.title = f"EfficientNet-B{size}"
        self.summary = summary
        self.depth = depth

    def model(
        self, height: int, width: int, channels: int, outputs: int, settings: TransformersHyperparameters
    ) -> PreTrainedModel:
        """See `TransformersAlgorithm.model`."""
        from torch import nn
        from transformers import EfficientNetConfig, EfficientNetForImageClassification
        from transformers.models.convnext.modeling_convnext import ConvNextDropPath

        from tasks.train.networks.image_classifier import initialise_convolutions_

        assert isinstance(settings, EfficientNetHyperparameters)
        # Halvings from the first to the last: that of the first convolution, then those of the stages.
        omitted = omitted_steps(min(height, width))
        halving = [place for place, stride in enumerate(STRIDES) if stride == 2]
        strides = tuple(
            1 if place in halving[: max(0, omitted - 1)] else stride for place, stride in enumerate(STRIDES)
        )
        config = EfficientNetConfig(
            num_channels=channels,
            width_coefficient=1.0,
            depth_coefficient=self.depth,
            hidden_dim=1280,
            strides=strides,
            depthwise_padding=self._odd(height, width, strides, halved=omitted == 0),
            dropout_rate=settings.dropout,
            drop_connect_rate=settings.stochastic_depth,
        )
        config.num_labels = outputs
        model: Any = EfficientNetForImageClassification(config)
        embeddings = model.efficientnet.embeddings
        if omitted:
            embeddings.convolution.stride = (1, 1)
            embeddings.padding = nn.ZeroPad2d(1)
        # A mean over the map as it is; transformers pools over a fixed window as wide as the channels.
        model.efficientnet.pooler = nn.AdaptiveAvgPool2d(1)
        for block in model.efficientnet.encoder.blocks:
            # The paper skips whole blocks for an image; transformers leaves out single numbers.
            block.projection.dropout = ConvNextDropPath(block.projection.dropout.p)
        initialise_convolutions_(model)
        return cast("PreTrainedModel", model)

    def _odd(self, height: int, width: int, strides: tuple[int, ...], *, halved: bool) -> tuple[int, ...]:
        """Numbers of the blocks that halve a map of odd side, which is padded alike on both sides."""
        sides = [side // 2 if halved else side for side in (height, width)]
        odd, number = [], 0
        for stride, repeats in zip(strides, REPEATS, strict=True):
            if stride == 2:
                if any(side % 2 for side in sides):
                    odd.append(number)
                sides = [-(-side // 2) for side in sides]
            number += -int(-self.depth * repeats // 1)
        return tuple(odd)


ALGORITHMS = (
    EfficientNet(0, 1.0, "Few weights and operations for its accuracy; small files, but many short steps."),
    EfficientNet(1, 1.1, "A deeper EfficientNet-B0, for larger images and more of them."),
)
