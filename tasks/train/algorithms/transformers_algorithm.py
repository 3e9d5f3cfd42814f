"""What the image networks of transformers share: sizes of images, starting weights and settings.

A network of this kind is built from its configuration alone, without any download. Its layout goes by
the shorter side of the images that it sees, by one rule for each of two kinds:

- **Pyramids** (ResNet, EfficientNet, MobileNetV2, ConvNeXt) shrink the image step by step. As published
  they shrink it 32 times, which would leave a single pixel of an image of 28. Here they shrink it by the
  largest of 2, 4, 8, 16 and 32 that leaves at least 3 pixels; the earliest steps are left out first.
- **Grids** (ViT) cut the image into patches, of 16 pixels as published; here of the largest of 2, 4, 8
  and 16 that leaves at least 7 patches a side, the last of which may be filled up with zeros.

| Side in pixels | 8 | 12 | 28 | 32 | 64 | 150 | 224 |
|---|---|---|---|---|---|---|---|
| Pyramid: reduction | 2 | 4 | 8 | 8 | 16 | 32 | 32 |
| Grid: patch in pixels | 2 | 2 | 4 | 4 | 8 | 16 | 16 |

Images from 96 (97) pixels on thus meet the published network, into which all pretrained weights fit.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.fields import EvalBatchSize, InputSize
from tasks.train.algorithms.network_algorithm import (
    ImageHyperparameters,
    NetworkAlgorithm,
)
from tasks.train.algorithms.suitability import FEW_ROWS, Characteristics, Suitability, suitability

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

SMALLEST_MAP_PX = 3
SMALLEST_GRID = 7
PUBLISHED_REDUCTION = 32


def reduction(side_px: int) -> int:
    """How many times the last map of a pyramid is smaller than the image: a power of 2 from 2 to 32."""
    return next((many for many in (32, 16, 8, 4) if side_px // many >= SMALLEST_MAP_PX), 2)


def omitted_steps(side_px: int) -> int:
    """How many of a pyramid's five halvings are left out for images of this side: 0 to 4."""
    return (PUBLISHED_REDUCTION // reduction(side_px)).bit_length() - 1


def patch_px(side_px: int) -> int:
    """Side of the patches that an image is cut into: a power of 2 from 2 to 16."""
    return next((patch for patch in (16, 8, 4) if -(-side_px // patch) >= SMALLEST_GRID), 2)


class TransformersHyperparameters(ImageHyperparameters):
    """Settings of the image networks of transformers."""

    eval_batch_size_per_rank: EvalBatchSize = 64
    input_size: InputSize = None


class TransformersAlgorithm(NetworkAlgorithm):
    """Base of the families of image networks.

    Attributes:
        costly: Whether the size is slow without a GPU, which suitability goes by.
    """

    problems = frozenset({Problem.IMAGE_CLASSIFICATION})
    usual_search: ClassVar[dict[str, SearchRange]] = {
        "learning_rate": {"kind": "log", "low": 3e-4, "high": 1e-2},
        "weight_decay": {"kind": "log", "low": 1e-3, "high": 1e-1},
        "label_smoothing": {"kind": "choice", "choices": [0.0, 0.1]},
        "shift_px": {"kind": "int", "low": 0, "high": 4},
    }
    costly: bool = False

    @abstractmethod
    def model(
        self, height: int, width: int, channels: int, outputs: int, settings: TransformersHyperparameters
    ) -> PreTrainedModel:
        """Build the untrained model of transformers for images of this size.

        Args:
            height: In pixels, as the network sees it.
            width: In pixels, as the network sees it.
            channels: 1 or 3.
            outputs: Classes.
            settings: The algorithm's own hyperparameters.
        """

    def multiple_px(self, side_px: int) -> int:
        """What sides of images are filled up to a multiple of."""
        return 1

    def network(self, input_shape: tuple[int, ...], outputs: int, settings: AlgorithmSettings) -> nn.Module:
        """See `NetworkAlgorithm.network`."""
        from tasks.train.networks.image_classifier import ImageClassifier

        assert isinstance(settings, TransformersHyperparameters)
        height, width, channels = input_shape
        if settings.input_size is not None:
            height = width = settings.input_size
        side_px = min(height, width)
        self.refuse_small_images(height, width, mend="set input_size, or preprocess with a larger size")
        multiple = self.multiple_px(side_px)
        height, width = (-(-side // multiple) * multiple for side in (height, width))
        model = self.model(height, width, channels, outputs, settings)
        return ImageClassifier(model, settings.input_size, multiple)

    def load_weights(self, network: nn.Module, path: Path, input_shape: tuple[int, ...]) -> str:
        """Take all stored weights that fit: see `NetworkAlgorithm.load_weights`.

        Args:
            network: As `network` built it.
            path: A folder with config.json and model.safetensors, or a safetensors file alone.
            input_shape: Shape of one image.

        Raises:
            InvalidSettings: Nothing can be read there, or nothing that fits.
        """
        from tasks.train.networks.weights import load_fitting

        return load_fitting(network, path, self.title)

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        few = data.train_rows < FEW_ROWS
        if self.costly:
            return suitability(
                1.0 if few else 1.6,
                f"deep: wants a GPU, or an hour and more for {data.train_rows:,} images",
                f"{data.train_rows:,} images are few to start from random weights" if few else "",
            )
        score = 1.4 if few else 2.4 if data.image_side_px > 64 else 2.2
        return suitability(
            score,
            f"sees large shapes in images of {data.image_side_px} pixels"
            if data.image_side_px > 64
            else f"laid out for small images such as these of {data.image_side_px} pixels",
            f"{data.train_rows:,} images are few to start from random weights" if few else "",
        )
