"""Residual networks: ResNet-18, 34, 50 and 101.

He et al., Deep Residual Learning for Image Recognition (2015). Small images meet the layout of that paper's
CIFAR-10 experiments: a first convolution of 3 x 3 with stride 1 and no pooling after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field

from tasks.train.algorithms.fields import (
    BatchSize,
    Epochs,
    EvalBatchSize,
    InputSize,
    LearningRate,
    LoggingSteps,
    WeightDecay,
)
from tasks.train.algorithms.transformers_algorithm import (
    TransformersAlgorithm,
    TransformersHyperparameters,
    omitted_steps,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ResNetHyperparameters(TransformersHyperparameters):
    """Settings of the residual networks."""

    learning_rate: LearningRate = 2e-3
    weight_decay: WeightDecay = 0.05


class ResNet50Hyperparameters(ResNetHyperparameters):
    """Settings of ResNet-50, with NHN EasyMaker's names and defaults.

    The learning rate is high for AdamW, yet it learns: 93 % of held-out digits after the three epochs.
    """

    learning_rate: float = Field(
        default=0.1,
        gt=0,
        le=10,
        description="Highest learning rate; 0.002 learns faster from few images or with pretrained weights.",
    )
    epochs: Epochs = 3
    batch_size_per_rank: BatchSize = 16
    eval_batch_size_per_rank: EvalBatchSize = 16
    logging_steps: LoggingSteps = 10
    input_size: InputSize = 28


class ResNet(TransformersAlgorithm):
    """Blocks of convolutions, each added to what came in.

    Args:
        layers: Layers of the network, which its name says.
        block: Two convolutions of 3 x 3, or one between two of 1 x 1.
        depths: Blocks of each of the four stages.
        summary: What it is for.
        hyperparameters: Its settings.
    """

    def __init__(
        self,
        layers: int,
        block: Literal["basic", "bottleneck"],
        depths: tuple[int, ...],
        summary: str,
        hyperparameters: type[ResNetHyperparameters] = ResNetHyperparameters,
    ) -> None:
        self.name = f"resnet_{layers}"
        self.title = f"ResNet-{layers}"
        self.summary = summary
        self.block = block
        self.depths = depths
        self.Hyperparameters = hyperparameters
        self.costly = layers >= 50

    def model(
        self, height: int, width: int, channels: int, outputs: int, settings: TransformersHyperparameters
    ) -> PreTrainedModel:
        """See `TransformersAlgorithm.model`."""
        from torch import nn
        from transformers import ResNetConfig, ResNetForImageClassification

        from tasks.train.networks.image_classifier import initialise_convolutions_

        widths = (64, 128, 256, 512) if self.block == "basic" else (256, 512, 1024, 2048)
        config = ResNetConfig(
            num_channels=channels, hidden_sizes=widths, depths=self.depths, layer_type=self.block
        )
        config.num_labels = outputs
        model: Any = ResNetForImageClassification(config)
        # Halvings from the first to the last: pooling is given up before the wide first convolution.
        omitted = omitted_steps(min(height, width))
        embedder, stages = model.resnet.embedder, model.resnet.encoder.stages
        if omitted >= 1:
            embedder.pooler = nn.Identity()
        if omitted >= 2:
            embedder.embedder.convolution = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
        for place in range(1, omitted - 1):
            for module in stages[place].layers[0].modules():
                if isinstance(module, nn.Conv2d):
                    module.stride = (1, 1)
        initialise_convolutions_(model)
        for stage in stages:
            for layer in stage.layers:
                # Each block starts as nothing but its shortcut: Goyal et al., Accurate, Large Minibatch SGD
                # (2017).
                nn.init.zeros_(layer.layer[-1].normalization.weight)
        return cast("PreTrainedModel", model)


ALGORITHMS = (
    ResNet(
        18, "basic", (2, 2, 2, 2), "The usual first deep network for images; learns well from a few thousand."
    ),
    ResNet(
        34,
        "basic",
        (3, 4, 6, 3),
        "Twice ResNet-18's depth: somewhat better from some ten thousand images on.",
    ),
    ResNet(
        50,
        "bottleneck",
        (3, 4, 6, 3),
        "The usual large network for images, mostly with pretrained weights; wants a GPU.",
        ResNet50Hyperparameters,
    ),
    ResNet(101, "bottleneck", (3, 4, 23, 3), "Deeper still; for many images, pretrained weights and a GPU."),
)
