"""The rows that templates are made of: small, each different, enough of each class for a first training."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tasks.refs import Problem

CLASSES = ("bright", "dark")
COUNTS = {"train": 4, "validation": 2, "test": 2}
"""Rows of each class in each split."""

SIDE_PX = 32
_RATE_HZ = 8_000

_WORDS = {"bright": ("sunny", "clear", "golden", "radiant"), "dark": ("gloomy", "cloudy", "moonless", "dim")}
_THINGS = ("morning", "valley", "harbour", "street", "garden", "window", "meadow", "kitchen")


def example_files(problem: Problem) -> Iterator[tuple[str, str, str, bytes]]:
    """Split, class, file name and content of examples of a classification."""
    for place, (split, label, number) in enumerate(example_places()):
        if problem.modality == "image":
            yield split, label, f"{number}.png", encoded(example_image(place, label == "bright"))
        elif problem.modality == "audio":
            yield split, label, f"{number}.wav", example_sound(place, 880 if label == "bright" else 220)
        else:
            words = f"A {_WORDS[label][place % 4]} {_THINGS[place % 8]}, seen {place + 1} times.\n"
            yield split, label, f"{number}.txt", words.encode()


def example_places() -> Iterator[tuple[str, str, int]]:
    """Split, class and number of every example."""
    for split, count in COUNTS.items():
        for label in CLASSES:
            for number in range(1, count + 1):
                yield split, label, number


def example_image(seed: int, bright: bool) -> Image.Image:
    """A grey square of noise with something in its middle."""
    noise = np.random.default_rng(seed).integers(0, 64, (SIDE_PX, SIDE_PX), np.uint8)
    noise[8:24, 8:24] += np.uint8(160 if bright else 16)
    return Image.fromarray(noise)


def encoded(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def example_sound(seed: int, pitch_hz: float) -> bytes:
    """A fifth of a second of a tone, as a WAV file of 16 bits and one channel."""
    import soundfile

    time_s = np.arange(_RATE_HZ // 5) / _RATE_HZ
    noise = np.random.default_rng(seed).normal(0, 0.02, len(time_s))
    sink = io.BytesIO()
    samples = 0.5 * np.sin(2 * np.pi * (pitch_hz + 5 * seed) * time_s) + noise
    soundfile.write(sink, samples.clip(-1, 1), _RATE_HZ, format="WAV", subtype="PCM_16")
    return sink.getvalue()
