"""What all PyTorch algorithms share: the settings of the training loop, and how a fit is run.

An algorithm of this kind only says how its network is built.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, Fit, FitContext, SearchRange, TrainingData
from tasks.train.algorithms.suitability import Characteristics, Suitability

if TYPE_CHECKING:
    from torch import nn

    from tasks.train.augmentation import Augmentation


class NetworkHyperparameters(AlgorithmSettings):
    """Settings of the training loop."""

    epochs: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Passes over the training rows; empty chooses by their number.",
    )
    batch_size_per_rank: int = Field(
        default=64, ge=1, le=65_536, description="Rows in one optimiser step on each rank."
    )
    learning_rate: float = Field(
        default=4e-3, gt=0, le=10, description="Highest learning rate of the one-cycle schedule."
    )
    weight_decay: float = Field(default=0.01, ge=0, le=10, description="Decay of AdamW.")
    warmup_percent: float = Field(
        default=20.0, ge=0, le=90, description="Share of the steps in which the learning rate rises."
    )
    patience_epochs: int = Field(
        default=10,
        ge=1,
        le=10_000,
        description="Training ends after this many epochs without a better validation loss.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Number format of the heavy operations; auto takes bfloat16 where that is fast.",
    )

    def epochs_for(self, rows: int, ranks: int = 1) -> int:
        """The epochs to train: as set, or else 5, and more where those would be fewer than 250 steps.

        Args:
            rows: Training rows.
            ranks: Processes that share them.
        """
        steps = max(1, rows // ranks // self.batch_size_per_rank)
        return self.epochs or min(100, max(5, math.ceil(250 / steps)))


class NetworkAlgorithm(ABC):
    """Base of the algorithms that train a PyTorch network by the one loop."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    problems: ClassVar[frozenset[Problem]]
    Hyperparameters: ClassVar[type[NetworkHyperparameters]]
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
        """How training inputs are varied; None leaves them as they are."""
        return None

    def fit(self, data: TrainingData, settings: AlgorithmSettings, context: FitContext) -> Fit:
        """Train by the one loop: see `Algorithm.fit`."""
        from tasks.train.network_fit import fit_network

        return fit_network(self, data, settings, context)
