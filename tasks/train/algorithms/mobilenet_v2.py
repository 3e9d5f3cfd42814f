"""MobileNetV2, for models that must be small and quick when they are used.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks (2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field

from tasks.train.algorithms.algorithm import SearchRange
from tasks.train.algorithms.fields import Dropout, LearningRate, WeightDecay
from tasks.train.algorithms.transformers_algorithm import (
    TransformersAlgorithm,
    TransformersHyperparameters,
    omitted_steps,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class MobileNetV2Hyperparameters(TransformersHyperparameters):
    """Settings of MobileNetV2."""

    learning_rate: LearningRate = 4e-3
    weight_decay: WeightDecay = 0.02
    width: float = Field(
        default=1.0, ge=0.1, le=2, description="How many times as many channels as published it has."
    )
    dropout: Dropout = 0.2


class MobileNetV2(TransformersAlgorithm):
    """Inverted bottlenecks of separable convolutions."""

    name = "mobilenet_v2"
    title = "MobileNetV2"
    summary = "Small and quick when it is used, for phones and many requests; somewhat less accurate."
    Hyperparameters = MobileNetV2Hyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        **TransformersAlgorithm.usual_search,
        "width": {"kind": "choice", "choices": [0.5, 0.75, 1.0]},
        "dropout": {"kind": "float", "low": 0.0, "high": 0.4},
    }

    def model(
        self, height: int, width: int, channels: int, outputs: int, settings: TransformersHyperparameters
    ) -> PreTrainedModel:
        """See `TransformersAlgorithm.model`."""
        from torch import nn
        from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

        from tasks.train.networks.image_classifier import initialise_convolutions_

        assert isinstance(settings, MobileNetV2Hyperparameters)
        config = MobileNetV2Config(
            num_channels=channels,
            depth_multiplier=settings.width,
            classifier_dropout_prob=settings.dropout,
        )
        config.num_labels = outputs
        model: Any = MobileNetV2ForImageClassification(config)
        halving = [
            module
            for module in model.modules()
            if isinstance(module, nn.Conv2d) and module.stride == (2, 2)  # in the order of the image's way
        ]
        for convolution in halving[: omitted_steps(min(height, width))]:
            convolution.stride = (1, 1)
        initialise_convolutions_(model)
        return cast("PreTrainedModel", model)


ALGORITHMS = (MobileNetV2(),)
