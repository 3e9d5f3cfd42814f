"""Hyperparameters that several algorithms have: bounds and help of each. Defaults are each one's own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

SMALLEST_SIDE_PX = 8
"""Three halvings leave at least one pixel of this: all networks for images take it."""

ClassWeights = Annotated[
    Literal["none", "balanced"], Field(description="balanced weighs each row by how rare its class is.")
]

Epochs = Annotated[
    int | None,
    Field(ge=1, le=10_000, description="Passes over the training rows; empty chooses by their number."),
]
BatchSize = Annotated[int, Field(ge=1, le=65_536, description="Rows in one optimiser step on each rank.")]
EvalBatchSize = Annotated[
    int,
    Field(
        ge=1,
        le=65_536,
        description="Rows that are scored together when the validation split is looked at.",
    ),
]
LearningRate = Annotated[float, Field(gt=0, le=10, description="Highest learning rate.")]
WeightDecay = Annotated[
    float,
    Field(ge=0, le=10, description="Decay of the weights; biases and normalisation have none."),
]
GradientClipNorm = Annotated[
    float | None,
    Field(
        gt=0,
        le=1e6,
        description="Longest gradient; longer ones are shortened to it. Empty leaves them as they are.",
    ),
]
LoggingSteps = Annotated[
    int | None,
    Field(
        ge=1,
        le=1_000_000,
        description="Steps between two reports of the training loss; empty reports epochs only.",
    ),
]

InputSize = Annotated[
    int | None,
    Field(
        ge=SMALLEST_SIDE_PX,
        le=1024,
        description="Side in pixels that images are resized to on their way into the network; "
        "empty takes them as they were prepared.",
    ),
]
Dropout = Annotated[
    float, Field(ge=0, lt=1, description="Share of the features left out before the last layer.")
]
StochasticDepth = Annotated[
    float, Field(ge=0, lt=1, description="Share of the images that the last block is skipped for.")
]
