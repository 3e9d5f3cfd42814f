"""Sound files: what they must be to come into the store, which keeps them as they are; decoding and encoding.

A prepared version holds 16-bit FLAC.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
AUDIO_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"})
"""As libsndfile names them."""

MAX_SAMPLES = 2**28
"""Samples of all channels together, a gigabyte when decoded: 93 minutes of one channel at 48 kHz."""

_BLOCK_FRAMES = 65_536
_MAGICS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3")

_SCALE = 2**15


@dataclass(frozen=True)
class Sound:
    """Samples of a sound.

    Attributes:
        samples: float32 [frames, channels], -1 to 1.
        rate_hz: Frames a second.
    """

    samples: np.ndarray
    rate_hz: int


def check_sound(content: bytes) -> None:
    """Decode a sound file to its end.

    Raises:
        ValueError: It is no such file, is damaged, cut short or too long.
    """
    import soundfile

    if not content:
        raise ValueError("an empty file")
    mp3 = len(content) > 1 and content[0] == 0xFF and content[1] & 0xE0 == 0xE0  # a frame without a tag
    if not content.startswith(_MAGICS) and not mp3:
        raise ValueError("not a WAV, FLAC, Ogg or MP3 file")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            if sound.format not in AUDIO_FORMATS:
                raise ValueError(f"a {sound.format} file, which is not read")
            if sound.frames * sound.channels > MAX_SAMPLES:
                raise ValueError(f"{sound.frames:,} frames, more than {MAX_SAMPLES // sound.channels:,}")
            frames = 0
            while block := len(sound.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                frames += block
            if frames != sound.frames or _is_cut_short(content):
                raise ValueError("cut short")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"damaged: {error.error_string}") from None


def _is_cut_short(content: bytes) -> bool:
    """Whether the container says that more should follow, which libsndfile passes over."""
    if content[:4] == b"RIFF":
        place = 12
        while place + 8 <= len(content):
            kind, size = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
            if kind == b"data":
                # Recorders that stream cannot know the size, and leave 0 or the largest number.
                return size not in (0, 0xFFFFFFFF) and place + 8 + size > len(content)
            place += 8 + size + size % 2
        return True
    if content[:4] == b"OggS":
        # The last page carries the sign that the stream ends, and says how long it is (RFC 3533, 6).
        page = content[content.rfind(b"OggS") :]
        if len(page) < 27 or not page[5] & 4:
            return True
        lengths = page[27 : 27 + page[26]]
        return len(lengths) < page[26] or 27 + len(lengths) + sum(lengths) > len(page)
    return False


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
    import numpy as np

    return Sound(_whole(sound).astype(np.float32) / _SCALE, sound.rate_hz)


def flac(sound: Sound) -> bytes:
    """The sound as a 16-bit FLAC file; what is louder than full scale is clipped."""
    import soundfile

    sink = io.BytesIO()
    soundfile.write(sink, _whole(sound), sound.rate_hz, format="FLAC", subtype="PCM_16")
    return sink.getvalue()


def _whole(sound: Sound) -> np.ndarray:
    import numpy as np

    whole: np.ndarray = np.clip(np.rint(sound.samples * _SCALE), -_SCALE, _SCALE - 1).astype(np.int16)
    return whole
