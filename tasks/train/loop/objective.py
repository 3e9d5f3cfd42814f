"""What a network is trained towards, and how its outputs are counted into metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tasks.train.algorithms.fit import Metrics


@dataclass(frozen=True)
class Targets:
    """What the rows of a batch should give.

    Attributes:
        labels: int64 `[n]`, or float32 `[n]` scaled to mean 0 and deviation 1.
        others: Labels of the rows that were mixed in, int64 `[n]`; None where nothing was.
        share: Share of a row's own label, 0 to 1; the other label has the rest.
    """

    labels: Tensor
    others: Tensor | None = None
    share: float = 1.0

    @property
    def plain(self) -> Tensor:
        """The label that has the larger share of each row."""
        return self.labels if self.others is None or self.share >= 0.5 else self.others


class Objective(Protocol):
    """One problem's loss and score."""

    def loss(self, raw: Tensor, targets: Targets) -> Tensor:
        """Mean loss of a batch, a scalar: what training makes small.

        Args:
            raw: Network outputs, float32 `[n, outputs]`.
            targets: What they should be.
        """
        ...

    def counts(self, raw: Tensor, labels: Tensor) -> Tensor:
        """Sums over a batch of the plain loss and of the score, float32 `[2]`.

        Metrics are made of these. The plain loss knows no smoothing, weights or mixing, so that losses of
        training and validation, and of fits with other settings, compare. The score counts right answers,
        or squared errors.
        """
        ...

    def metrics(self, split: str, loss: float, score: float) -> Metrics:
        """Metrics of a split, from its loss and its score per row."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Classification: cross-entropy in nats, and accuracy.

    Attributes:
        label_smoothing: Share of the target that is spread over all classes (Szegedy et al. 2016,
            arXiv:1512.00567).
        class_weights: Weight of each class's rows, float32 `[classes]`, 1 in the mean over the training
            rows; None weighs all alike.
    """

    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    def loss(self, raw: Tensor, targets: Targets) -> Tensor:
        """See `Objective.loss`."""
        loss = self._towards(raw, targets.labels)
        if targets.others is None:
            return loss
        return torch.lerp(self._towards(raw, targets.others), loss, targets.share)

    def _towards(self, raw: Tensor, labels: Tensor) -> Tensor:
        if self.class_weights is None:
            return functional.cross_entropy(raw, labels, label_smoothing=self.label_smoothing)
        losses = functional.cross_entropy(raw, labels, label_smoothing=self.label_smoothing, reduction="none")
        # Over rows, not over weights: a batch without a rare class must not count as if it had one.
        return (losses * self.class_weights[labels]).mean()

    def counts(self, raw: Tensor, labels: Tensor) -> Tensor:
        """See `Objective.counts`."""
        loss = functional.cross_entropy(raw, labels, reduction="sum")
        return torch.stack([loss, (raw.argmax(dim=1) == labels).sum().to(loss.dtype)])

    def metrics(self, split: str, loss: float, score: float) -> Metrics:
        """See `Objective.metrics`."""
        return {f"{split}_loss": loss, f"{split}_accuracy": score}


@dataclass(frozen=True)
class SquaredError:
    """Regression: mean squared error and its root, in the labels' own units.

    Attributes:
        label_deviation: Standard deviation that the labels were divided by.
    """

    label_deviation: float

    def loss(self, raw: Tensor, targets: Targets) -> Tensor:
        """See `Objective.loss`."""
        return functional.mse_loss(raw[:, 0], targets.labels)

    def counts(self, raw: Tensor, labels: Tensor) -> Tensor:
        """See `Objective.counts`."""
        squares = (raw[:, 0] - labels).square().sum()
        return torch.stack([squares, squares])

    def metrics(self, split: str, loss: float, score: float) -> Metrics:
        """See `Objective.metrics`."""
        unit = self.label_deviation
        return {f"{split}_loss": loss * unit**2, f"{split}_rmse": score**0.5 * unit}


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Weights that give every class the same say: rows / (classes · rows of the class).

    Args:
        labels: int64 `[n]`, of the training rows.
        classes: Classes that there are; those without rows have weight 1, and take no part.

    Returns:
        float32 `[classes]`, whose mean over the rows is 1.
    """
    rows = torch.bincount(labels, minlength=classes).to(torch.float64)
    present = rows > 0
    weights = torch.ones(classes, dtype=torch.float64)
    weights[present] = len(labels) / (present.sum() * rows[present])
    return weights.to(torch.float32)
