"""Bring sounds to one rate."""

from __future__ import annotations

from math import gcd

from pydantic import Field

from tasks.data.formats.audio import Sound
from tasks.data.methods.method import AudioMethod, MethodParameters, State


class ResampleParameters(MethodParameters):
    """Parameters of `Resample`."""

    rate_hz: int = Field(default=16_000, ge=1_000, le=192_000, description="Samples a second of the result.")


class Resample(AudioMethod):
    """Polyphase filtering: what lies above half the new rate is taken out first."""

    name = "resample"
    Parameters = ResampleParameters
    sets_rate = True
    mends = "sample rate"

    def apply(self, sound: Sound, parameters: ResampleParameters, state: State) -> Sound:
        if sound.rate_hz == parameters.rate_hz or not len(sound.samples):
            return Sound(sound.samples, parameters.rate_hz)
        import numpy as np
        from scipy.signal import resample_poly

        common = gcd(sound.rate_hz, parameters.rate_hz)
        up, down = parameters.rate_hz // common, sound.rate_hz // common
        samples = resample_poly(sound.samples, up, down, axis=0)
        return Sound(samples.astype(np.float32), parameters.rate_hz)
