"""ConvNeXt-Tiny.

Liu et al., A ConvNet for the 2020s (2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field

from tasks.train.algorithms.algorithm import SearchRange
from tasks.train.algorithms.fields import LearningRate, StochasticDepth, WeightDecay
from tasks.train.algorithms.transformers_algorithm import (
    TransformersAlgorithm,
    TransformersHyperparameters,
    omitted_steps,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WIDTHS = (96, 192, 384, 768)
DEPTHS = (3, 3, 9, 3)


class ConvNextHyperparameters(TransformersHyperparameters):
    """Settings of ConvNeXt."""

    learning_rate: LearningRate = 1e-3
    weight_decay: WeightDecay = 0.05
    stochastic_depth: StochasticDepth = 0.1
    layer_scale: float = Field(
        default=1e-2,
        ge=1e-8,
        le=1,
        description="What each block's part is first multiplied by; published for long trainings is 1e-6.",
    )


class ConvNext(TransformersAlgorithm):
    """Wide separable convolutions and perceptrons, in the manner of a transformer.

    Small images are cut into patches of 2 pixels, not 4; further halvings are left out from the second
    stage on, where a convolution of a single pixel then changes the width.
    """

    name = "convnext_tiny"
    title = "ConvNeXt-Tiny"
    summary = "Modern convolutional network; strong with pretrained weights or many images, and a GPU."
    Hyperparameters = ConvNextHyperparameters
    costly = True
    usual_search: ClassVar[dict[str, SearchRange]] = {
        **TransformersAlgorithm.usual_search,
        "stochastic_depth": {"kind": "float", "low": 0.0, "high": 0.3},
    }

    def model(
        self, height: int, width: int, channels: int, outputs: int, settings: TransformersHyperparameters
    ) -> PreTrainedModel:
        """See `TransformersAlgorithm.model`."""
        from torch import nn
        from transformers import ConvNextConfig, ConvNextForImageClassification

        assert isinstance(settings, ConvNextHyperparameters)
        omitted = omitted_steps(min(height, width))
        config = ConvNextConfig(
            num_channels=channels,
            patch_size=2 if omitted else 4,
            hidden_sizes=WIDTHS,
            depths=DEPTHS,
            drop_path_rate=settings.stochastic_depth,
            layer_scale_init_value=settings.layer_scale,
            image_size=min(height, width),
        )
        config.num_labels = outputs
        model: Any = ConvNextForImageClassification(config)
        stages = model.convnext.encoder.stages
        for place in range(1, omitted):
            convolution = nn.Conv2d(WIDTHS[place - 1], WIDTHS[place], kernel_size=1)
            nn.init.trunc_normal_(convolution.weight, std=0.02)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
            stages[place].downsampling_layer[1] = convolution
        return cast("PreTrainedModel", model)


ALGORITHMS = (ConvNext(),)
