"""Make one channel of several."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.data.formats.audio import Sound
from tasks.data.methods.method import AudioMethod, MethodParameters, State


class MonoParameters(MethodParameters):
    """Parameters of `Mono`."""

    of: Literal["mean", "first"] = Field(
        default="mean", description="The mean of all channels, or the first (left) channel alone."
    )


class Mono(AudioMethod):
    """One channel."""

    name = "mono"
    Parameters = MonoParameters
    sets_channels = True
    mends = "channels"

    def apply(self, sound: Sound, parameters: MonoParameters, state: State) -> Sound:
        if sound.samples.shape[1] == 1:
            return sound
        if parameters.of == "first":
            return Sound(sound.samples[:, :1], sound.rate_hz)
        return Sound(sound.samples.mean(axis=1, keepdims=True), sound.rate_hz)
