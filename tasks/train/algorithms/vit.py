"""Vision transformers: ViT-Tiny and ViT-Small.

Dosovitskiy et al., An Image is Worth 16x16 Words (2020); the two small sizes are those of Touvron et al.,
Training data-efficient image transformers (2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tasks.train.algorithms.algorithm import SearchRange
from tasks.train.algorithms.fields import GradientClipNorm, LearningRate, WeightDecay
from tasks.train.algorithms.transformers_algorithm import (
    TransformersAlgorithm,
    TransformersHyperparameters,
    patch_px,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYERS = 12
HEAD_WIDTH = 64


class ViTHyperparameters(TransformersHyperparameters):
    """Settings of the vision transformers."""

    learning_rate: LearningRate = 1e-3
    weight_decay: WeightDecay = 0.05
    gradient_clip_norm: GradientClipNorm = 1.0
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the features left out after each layer."
    )


class ViT(TransformersAlgorithm):
    """Attention between the patches of an image, which is filled up to whole patches.

    Args:
        size: Its name.
        heads: Attention heads, of 64 numbers each.
        summary: What it is for.
    """

    Hyperparameters = ViTHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        **TransformersAlgorithm.usual_search,
        "learning_rate": {"kind": "log", "low": 1e-4, "high": 3e-3},
        "dropout": {"kind": "float", "low": 0.0, "high": 0.2},
    }
    costly = True

    def __init__(self, size: str, heads: int, summary: str) -> None:
        self.name = f"vit_{size}"
        self.title = f"ViT-{size.title()}"
        self.summary = summary
        self.heads = heads

    def multiple_px(self, side_px: int) -> int:
        """See `TransformersAlgorithm.multiple_px`."""
        return patch_px(side_px)

    def model(
        self, height: int, width: int, channels: int, outputs: int, settings: TransformersHyperparameters
    ) -> PreTrainedModel:
        """See `TransformersAlgorithm.model`."""
        from transformers import ViTConfig, ViTForImageClassification

        assert isinstance(settings, ViTHyperparameters)
        features = self.heads * HEAD_WIDTH
        config = ViTConfig(
            num_channels=channels,
            image_size=(height, width),
            patch_size=patch_px(min(height, width)),  # the same for a side and for that side filled up
            hidden_size=features,
            num_hidden_layers=LAYERS,
            num_attention_heads=self.heads,
            intermediate_size=4 * features,
            hidden_dropout_prob=settings.dropout,
        )
        config.num_labels = outputs
        return ViTForImageClassification(config)


ALGORITHMS = (
    ViT("tiny", 3, "Small transformer for images; needs tens of thousands of them, or pretrained weights."),
    ViT("small", 6, "Transformer for images; needs pretrained weights or very many images, and a GPU."),
)
