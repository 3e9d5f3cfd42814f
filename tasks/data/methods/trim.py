"""Cut silence off sounds, and what is too long."""

from __future__ import annotations

from pydantic import Field

from tasks.data.formats.audio import Sound
from tasks.data.methods.method import AudioMethod, MethodParameters, State


class TrimParameters(MethodParameters):
    """Parameters of `Trim`."""

    silence_db: float = Field(
        default=40.0,
        gt=0,
        le=120,
        allow_inf_nan=False,
        description="What is so many decibels below the loudest sample counts as silence.",
    )
    margin_s: float = Field(
        default=0.0, ge=0, le=60, allow_inf_nan=False, description="Silence that stays, in seconds."
    )
    longest_s: float | None = Field(
        default=None, gt=0, le=86_400, allow_inf_nan=False, description="Cut what is longer; empty cuts none."
    )


class Trim(AudioMethod):
    """Silence goes from the start and the end, not from within. A silent sound stays as it is."""

    name = "trim"
    Parameters = TrimParameters

    def apply(self, sound: Sound, parameters: TrimParameters, state: State) -> Sound:
        import numpy as np

        samples = sound.samples
        loudness = np.abs(samples).max(axis=1, initial=0.0)
        loudest = loudness.max(initial=0.0)
        if loudest > 0:
            heard = np.flatnonzero(loudness > loudest * 10 ** (-parameters.silence_db / 20))
            margin = round(parameters.margin_s * sound.rate_hz)
            samples = samples[max(heard[0] - margin, 0) : heard[-1] + 1 + margin]
        if parameters.longest_s is not None:
            samples = samples[: max(1, round(parameters.longest_s * sound.rate_hz))]
        return sound if len(samples) == len(sound.samples) else Sound(samples, sound.rate_hz)
