"""A multilayer perceptron for tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.fields import BatchSize
from tasks.train.algorithms.network_algorithm import NetworkAlgorithm, NetworkHyperparameters
from tasks.train.algorithms.suitability import FEW_ROWS, Characteristics, Suitability, suitability

if TYPE_CHECKING:
    from torch import nn


class MlpHyperparameters(NetworkHyperparameters):
    """Settings of the perceptron."""

    batch_size_per_rank: BatchSize = 32
    learning_rate: float = Field(
        default=1e-2, gt=0, le=10, description="Highest learning rate of the schedule."
    )
    hidden_width: int = Field(default=64, ge=1, le=8192, description="Units of each hidden layer.")
    hidden_layers: int = Field(default=2, ge=1, le=16, description="Hidden layers.")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the hidden units left out in training."
    )


class Mlp(NetworkAlgorithm):
    """Fully connected layers with ReLU between them."""

    name = "mlp"
    title = "Multilayer perceptron"
    summary = "Small neural network for numeric tables; scale the columns first."
    problems = frozenset({Problem.TABLE_CLASSIFICATION, Problem.TABLE_REGRESSION})
    Hyperparameters = MlpHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        "learning_rate": {"kind": "log", "low": 1e-3, "high": 5e-2},
        "weight_decay": {"kind": "log", "low": 1e-4, "high": 1e-1},
        "hidden_width": {"kind": "choice", "choices": [32, 64, 128, 256]},
        "hidden_layers": {"kind": "int", "low": 1, "high": 3},
        "dropout": {"kind": "float", "low": 0.0, "high": 0.4},
    }

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        if data.train_rows < FEW_ROWS:
            return suitability(1.0, f"{data.train_rows:,} rows are few for a network")
        return suitability(1.8, "learns smooth relations that trees cut into steps")

    def network(self, input_shape: tuple[int, ...], outputs: int, settings: AlgorithmSettings) -> nn.Module:
        """See `NetworkAlgorithm.network`."""
        from torch import nn

        assert isinstance(settings, MlpHyperparameters)
        layers: list[nn.Module] = []
        before = input_shape[0]
        for _ in range(settings.hidden_layers):
            layers += [nn.Linear(before, settings.hidden_width), nn.ReLU(inplace=True)]
            if settings.dropout:
                layers.append(nn.Dropout(settings.dropout))
            before = settings.hidden_width
        layers.append(nn.Linear(before, outputs))
        return nn.Sequential(*layers)


ALGORITHMS = (Mlp(),)
