"""What all PyTorch algorithms share: the settings of the training loop, and how a fit is run.

An algorithm of this kind only says how its network is built.
"""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.fields import (
    SMALLEST_SIDE_PX,
    BatchSize,
    ClassWeights,
    Epochs,
    EvalBatchSize,
    GradientClipNorm,
    LearningRate,
    LoggingSteps,
    WeightDecay,
)
from tasks.train.algorithms.fit import Fit, FitContext, TrainingData
from tasks.train.algorithms.suitability import Characteristics, Suitability

if TYPE_CHECKING:
    from torch import nn

    from tasks.train.loop.augmentation import Augmentation


TRANSFORMERS_NAMES = {
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size_per_rank",
    "per_device_eval_batch_size": "eval_batch_size_per_rank",
    "gradient_accumulation_steps": "accumulation_steps",
    "max_grad_norm": "gradient_clip_norm",
    "label_smoothing_factor": "label_smoothing",
}
"""Names of transformers' `TrainingArguments` that are called otherwise here."""


class NetworkHyperparameters(AlgorithmSettings):
    """Settings of the training loop. Names of transformers' `TrainingArguments` are understood as well."""

    epochs: Epochs = None
    batch_size_per_rank: BatchSize = 64
    eval_batch_size_per_rank: EvalBatchSize = 512
    accumulation_steps: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Batches that one step of the optimiser is made of: large steps in little memory.",
    )
    optimizer: Literal["adamw", "sgd"] = Field(
        default="adamw", description="AdamW, or stochastic gradient descent with Nesterov's momentum."
    )
    learning_rate: LearningRate = 4e-3
    learning_rate_scaling: Literal["none", "linear", "sqrt"] = Field(
        default="none",
        description="How learning_rate grows with the ranks: not at all, with their number, or its root.",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of sgd; adamw has its own.")
    weight_decay: WeightDecay = 0.01
    schedule: Literal["one_cycle", "cosine", "linear", "step", "constant"] = Field(
        default="linear", description="Course of the learning rate after the warm-up."
    )
    warmup_percent: float = Field(
        default=10.0, ge=0, le=90, description="Share of the steps in which the learning rate rises."
    )
    gradient_clip_norm: GradientClipNorm = None
    class_weights: ClassWeights = "none"
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the target that is spread over all classes.",
    )
    weight_averaging: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay a step of a running mean of the weights, which is what is kept; 0 keeps the last.",
    )
    patience_epochs: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Training ends after this many epochs without a better validation loss; empty is half "
        "of all epochs, and at least 10.",
    )
    logging_steps: LoggingSteps = None
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Number format of the heavy operations; auto takes bfloat16 where that is fast.",
    )
    gradient_compression: Literal["none", "float16"] = Field(
        default="none", description="Number format in which ranks send each other their gradients."
    )
    compile: bool = Field(
        default=False, description="Compile the network with torch.compile; pays on GPUs and long trainings."
    )

    @model_validator(mode="before")
    @classmethod
    def _understand_names_of_transformers(cls, values: Any) -> Any:
        """Rename them; here and not at the fields, which subclasses redefine for other defaults.

        One that stands beside our own name of the same setting stays, and so is refused as unknown.
        """
        if not isinstance(values, dict):
            return values
        return {
            name if ours in values else ours: value
            for name, value in values.items()
            for ours in [TRANSFORMERS_NAMES.get(name, name)]
        }

    def epochs_for(self, rows: int, ranks: int = 1) -> int:
        """The epochs to train: as set, or else 5, and more where those would be fewer than 250 steps.

        Args:
            rows: Training rows.
            ranks: Processes that share them.
        """
        steps = max(1, rows // ranks // (self.batch_size_per_rank * self.accumulation_steps))
        return self.epochs or min(100, max(5, math.ceil(250 / steps)))

    def learning_rate_for(self, ranks: int) -> float:
        """The highest learning rate of so many ranks.

        Linear scaling follows Goyal et al. 2017 (arXiv:1706.02677), for sgd; the root follows Malladi et
        al. 2022 (arXiv:2205.10287), for adamw.
        """
        factor = {"none": 1.0, "linear": float(ranks), "sqrt": math.sqrt(ranks)}
        return self.learning_rate * factor[self.learning_rate_scaling]

    def patience_for(self, epochs: int) -> int:
        """The epochs without a better validation loss that end a training: as set, or half of all.

        Learning rates fall until the end, and the loss with them: a pause before says little. On few rows,
        whose epochs are a step or two, the loss goes up and down for dozens of them.

        Args:
            epochs: That are planned.
        """
        return self.patience_epochs or max(10, epochs // 2)


class ImageHyperparameters(NetworkHyperparameters):
    """Settings of the training loop for networks that take images: how training images are varied."""

    shift_px: int = Field(
        default=1, ge=0, le=64, description="Largest random shift of a training image, in pixels."
    )
    horizontal_flip: bool = Field(
        default=False, description="Mirror every other training image; not for digits or text."
    )
    rotation_degrees: float = Field(
        default=0.0, ge=0, le=180, description="Largest random turn of a training image, either way."
    )
    zoom_percent: float = Field(
        default=0.0, ge=0, le=90, description="Largest random change of a training image's size."
    )
    brightness_percent: float = Field(
        default=0.0, ge=0, le=100, description="Largest random change of brightness and contrast."
    )
    erase_percent: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Share of the training images in which a random rectangle is blanked.",
    )
    mixup: float = Field(
        default=0.0, ge=0, le=10, description="Alpha of mixup, which blends pairs of images; 0 is off."
    )
    cutmix: float = Field(
        default=0.0, ge=0, le=10, description="Alpha of CutMix, which pastes parts of images; 0 is off."
    )


class NetworkAlgorithm(ABC):
    """Base of the algorithms that train a PyTorch network by the one loop.

    A family of sizes is one class with an instance a size, each with a name, title and settings of its own.
    """

    name: str
    title: str
    summary: str
    problems: ClassVar[frozenset[Problem]]
    Hyperparameters: type[NetworkHyperparameters]
    usual_search: ClassVar[dict[str, SearchRange]]

    @abstractmethod
    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""

    @abstractmethod
    def network(self, input_shape: tuple[int, ...], outputs: int, settings: AlgorithmSettings) -> nn.Module:
        """Build the untrained network.

        Args:
            input_shape: `(height, width, channels)` of an image, or `(features,)` of a table row.
            outputs: Numbers that it gives for one row.
            settings: The algorithm's own hyperparameters.

        Raises:
            InvalidSettings: No such network can take inputs of this shape.
        """

    def augmentation(self, settings: AlgorithmSettings) -> Augmentation | None:
        """How training inputs are varied: as settings of images say; None leaves them as they are."""
        if not isinstance(settings, ImageHyperparameters):
            return None
        from tasks.train.loop.augmentation import ImageAugmentation

        augmentation = ImageAugmentation(
            settings.shift_px,
            settings.horizontal_flip,
            settings.rotation_degrees,
            settings.zoom_percent,
            settings.brightness_percent,
            settings.erase_percent,
        )
        return None if augmentation == ImageAugmentation() else augmentation

    def refuse(self, data: TrainingData, settings: AlgorithmSettings) -> None:
        """See `Algorithm.refuse`: settings of the loop, and inputs that no such network takes."""
        import torch

        from tasks.train.loop.refusals import refuse_unfit

        assert isinstance(settings, NetworkHyperparameters)
        refuse_unfit(settings, data, ranks=1)
        with torch.device("meta"):  # shapes alone, without weights
            self.network(tuple(data.train.inputs.shape[1:]), data.outputs, settings)

    def refuse_small_images(self, height: int, width: int, mend: str) -> None:
        """Refuse images of less than `SMALLEST_SIDE_PX`.

        Args:
            height: In pixels, as the network sees it.
            width: In pixels, as the network sees it.
            mend: What to do about it.

        Raises:
            InvalidSettings: A side is too short.
        """
        if min(height, width) < SMALLEST_SIDE_PX:
            raise InvalidSettings(
                f"images of {width} x {height} pixels are too small for {self.title}",
                where="dataset",
                allowed=f"sides of at least {SMALLEST_SIDE_PX} pixels",
                mend=mend,
            )

    def refit_settings(self, settings: AlgorithmSettings, best_epochs: Sequence[int]) -> AlgorithmSettings:
        """As many epochs as the folds' best: see `Algorithm.refit_settings`."""
        return settings.model_copy(update={"epochs": round(statistics.fmean(best_epochs))})

    def load_weights(self, network: nn.Module, path: Path, input_shape: tuple[int, ...]) -> str:
        """Put weights that were learned before into a new network, in place.

        Args:
            network: As `network` built it.
            path: A safetensors file with the weights of the very same network.
            input_shape: Shape of one input, as `network` was told.

        Returns:
            What was taken and what was not, for the log.

        Raises:
            InvalidSettings: There is no such file, it is not safetensors, or its weights do not fit.
        """
        from tasks.train.networks.weights import load_whole

        return load_whole(network, path, self.title)

    def fit(self, data: TrainingData, settings: AlgorithmSettings, context: FitContext) -> Fit:
        """Train by the one loop, in this process or on ranks: see `Algorithm.fit`."""
        if context.launch is not None:
            from tasks.train.ranks.fit import fit_on_ranks

            return fit_on_ranks(self.name, data, settings, context)
        from tasks.train.loop.fit import fit_network

        return fit_network(self, data, settings, context)
