"""Decoding and encoding of sounds: a prepared version holds them as 16-bit FLAC."""

from __future__ import annotations

import io

import numpy as np

from tasks.data.methods.method import Sound

_SCALE = 2**15


def decoded(content: bytes) -> Sound:
    """The samples of a sound file.

    Raises:
        ValueError: It is damaged or no sound.
    """
    import soundfile

    try:
        samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"damaged: {error.error_string}") from None
    return Sound(samples, rate_hz)


def rounded(sound: Sound) -> Sound:
    """The sound as 16 bits hold it: what comes back from `flac`."""
    return Sound(_whole(sound).astype(np.float32) / _SCALE, sound.rate_hz)


def flac(sound: Sound) -> bytes:
    """The sound as a 16-bit FLAC file; what is louder than full scale is clipped."""
    import soundfile

    sink = io.BytesIO()
    soundfile.write(sink, _whole(sound), sound.rate_hz, format="FLAC", subtype="PCM_16")
    return sink.getvalue()


def _whole(sound: Sound) -> np.ndarray:
    whole: np.ndarray = np.clip(np.rint(sound.samples * _SCALE), -_SCALE, _SCALE - 1).astype(np.int16)
    return whole
