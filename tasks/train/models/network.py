"""PyTorch networks kept as safetensors, with the numbers that bring raw inputs to the network's scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tasks.errors import Damaged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.train.algorithms.fit import Json

ROWS_AT_ONCE = 512
PIXELS_AT_ONCE = 512 * 28 * 28
"""Scored in one pass: keeps the activations of a small network below 100 MB, of a large one below 2 GB."""


@dataclass(frozen=True)
class Scale:
    """Brings inputs to mean 0 and deviation 1, and a regression's outputs back to the labels' units.

    Attributes:
        mean: Of each image channel or table column in the training rows.
        deviation: The same columns' standard deviation; 1 where a column is constant.
        label_mean: Of the training labels; 0 for classification.
        label_deviation: Of the training labels; 1 for classification.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    label_mean: float = 0.0
    label_deviation: float = 1.0

    def apply(self, inputs: Tensor) -> Tensor:
        """Make network inputs.

        Args:
            inputs: uint8 `[n, h, w, c]` or floating `[n, features]`.

        Returns:
            float32 `[n, c, h, w]` in channels-last memory, or float32 `[n, features]`.
        """
        mean, deviation = self._columns
        scaled = (inputs - mean.to(inputs.device)).div_(deviation.to(inputs.device))
        return (scaled.permute(0, 3, 1, 2) if scaled.ndim == 4 else scaled).to(torch.float32)

    @cached_property
    def _columns(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation, float32 `[columns]`: made once, since inputs come batch by batch."""
        return torch.tensor(self.mean), torch.tensor(self.deviation)


class NetworkModel:
    """A trained network.

    Args:
        network: Takes what `Scale.apply` gives; returns logits `[n, classes]`, or `[n, 1]` for regression.
        scale: The scale of the training rows.
        input_shape: Shape of one input: `(h, w, c)` or `(features,)`.
        outputs: Classes; 0 for regression.
        plan: How to build the same network again: an algorithm's name and its settings.
    """

    format: ClassVar[str] = "safetensors"

    def __init__(
        self,
        network: nn.Module,
        scale: Scale,
        input_shape: tuple[int, ...],
        outputs: int,
        plan: dict[str, Json],
    ) -> None:
        self.network = network.eval()
        self.scale = scale
        self.input_shape = input_shape
        self.outputs = outputs
        self.plan = plan

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    def predict(self, inputs: NDArray[np.uint8] | NDArray[np.float64]) -> NDArray[np.float32]:
        """Score rows in float32, whatever precision training used: see `FittedModel.predict`.

        The same row gives the same scores to about 1e-6 whatever other rows come with it.
        """
        parts = []
        pixels = math.prod(self.input_shape[:2]) if len(self.input_shape) == 3 else 1
        at_once = max(1, min(ROWS_AT_ONCE, PIXELS_AT_ONCE // pixels))
        with torch.inference_mode():
            for start in range(0, len(inputs), at_once):
                rows = torch.from_numpy(np.ascontiguousarray(inputs[start : start + at_once]))
                parts.append(self._score(self.network(self.scale.apply(rows))).numpy())
        if not parts:
            return np.empty((0, self.outputs) if self.outputs else (0,), dtype=np.float32)
        return np.concatenate(parts)

    def _score(self, raw: Tensor) -> Tensor:
        if self.outputs:
            return torch.softmax(raw, dim=1)
        return raw[:, 0] * self.scale.label_deviation + self.scale.label_mean

    def save(self, path: Path) -> None:
        save_file({k: v.contiguous() for k, v in self.network.state_dict().items()}, path)

    def description(self) -> dict[str, Json]:
        return {
            "input_shape": list(self.input_shape),
            "outputs": self.outputs,
            "plan": self.plan,
            "mean": list(self.scale.mean),
            "deviation": list(self.scale.deviation),
            "label_mean": self.scale.label_mean,
            "label_deviation": self.scale.label_deviation,
        }

    @classmethod
    def load(cls, path: Path, description: dict[str, Any]) -> NetworkModel:
        from tasks.train.algorithms import get
        from tasks.train.algorithms.network_algorithm import NetworkAlgorithm

        plan = description["plan"]
        algorithm = get(plan["algorithm"])
        if not isinstance(algorithm, NetworkAlgorithm):
            raise Damaged(f"'{plan['algorithm']}' does not make networks", where=str(path))
        shape = tuple(description["input_shape"])
        network = algorithm.network(
            shape,
            description["outputs"] or 1,
            algorithm.Hyperparameters.model_validate(plan["hyperparameters"]),
        )
        try:
            network.load_state_dict(load_file(path))
        except Exception as error:  # safetensors and torch each have their own families
            raise Damaged(f"the weights do not fit the network: {error}", where=str(path)) from error
        scale = Scale(
            tuple(description["mean"]),
            tuple(description["deviation"]),
            description["label_mean"],
            description["label_deviation"],
        )
        if len(shape) == 3:
            channels_last_(network)
        return cls(network, scale, shape, description["outputs"], plan)


def channels_last_(network: nn.Module) -> None:
    """Put the weights of convolutions in the memory order that their kernels are fastest in."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
