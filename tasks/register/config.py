"""Settings of registration and of the gate."""

from __future__ import annotations

from pydantic import Field

from tasks.settings import Settings

#: A model's name is part of an endpoint's address; MLflow takes no slash and no colon in it.
MODEL_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class RegisterConfig(Settings):
    """Which registered model a training becomes a version of."""

    model: str = Field(
        default="",
        pattern=r"^$|" + MODEL_NAME_PATTERN,
        description="Name of the registered model: letters, digits, dots, dashes; empty takes the dataset's.",
    )
    description: str = Field(
        default="", max_length=5000, description="What is to be known of this version, in your own words."
    )
    tags: dict[str, str] = Field(
        default_factory=dict, max_length=10, description="Up to ten tags of your own on the version."
    )


class GateConfig(Settings):
    """What a version must reach to replace the champion."""

    min_gain: float = Field(
        default=0.0,
        ge=-1e9,
        le=1e9,
        allow_inf_nan=False,
        description="Least gain in the headline metric over the champion; 0 lets an equal version pass.",
    )
    floor: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="What the headline metric must reach in any case: accuracy at least, RMSE at most.",
    )
