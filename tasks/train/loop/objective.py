"""What a network is trained towards, and how its outputs are counted into metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from tasks.train.algorithms.algorithm import Metrics


class Objective(Protocol):
    """One problem's loss and score."""

    def loss(self, raw: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of a batch, a scalar.

        Args:
            raw: Network outputs, float32 `[n, outputs]`.
            labels: int64 `[n]`, or float32 `[n]` scaled to mean 0 and deviation 1.
        """
        ...

    def score(self, raw: Tensor, labels: Tensor) -> Tensor:
        """Sum of what is counted over a batch, a scalar: right answers, or squared errors."""
        ...

    def metrics(self, split: str, loss: float, score: float) -> Metrics:
        """Metrics of a split, from its loss and its score per row."""
        ...


class CrossEntropy:
    """Classification: cross-entropy in nats, and accuracy."""

    def loss(self, raw: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(raw, labels)

    def score(self, raw: Tensor, labels: Tensor) -> Tensor:
        return (raw.argmax(dim=1) == labels).sum()

    def metrics(self, split: str, loss: float, score: float) -> Metrics:
        return {f"{split}_loss": loss, f"{split}_accuracy": score}


@dataclass(frozen=True)
class SquaredError:
    """Regression: mean squared error and its root, in the labels' own units.

    Attributes:
        label_deviation: Standard deviation that the labels were divided by.
    """

    label_deviation: float

    def loss(self, raw: Tensor, labels: Tensor) -> Tensor:
        return functional.mse_loss(raw[:, 0], labels)

    def score(self, raw: Tensor, labels: Tensor) -> Tensor:
        return (raw[:, 0] - labels).square().sum()

    def metrics(self, split: str, loss: float, score: float) -> Metrics:
        unit = self.label_deviation
        return {f"{split}_loss": loss * unit**2, f"{split}_rmse": score**0.5 * unit}
