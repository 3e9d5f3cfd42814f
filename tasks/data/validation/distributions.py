"""Sizes, modes, lengths and rates of the files of a version: numbers, and counts for small bars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.data.manifest import Manifest
from tasks.data.validation.media_facts import (
    CHANNELS,
    HEIGHT,
    LABELLED,
    LENGTH,
    MODE,
    MODES,
    OBJECTS,
    OTHER_MODE,
    RATE,
    SECONDS,
    WIDTH,
)
from tasks.data.validation.standing import Standing

BARS = 8
"""Most bars of one distribution."""

_SHOWN = (
    (WIDTH, "pixels"),
    (HEIGHT, "pixels"),
    (MODE, ""),
    (LENGTH, "characters"),
    (SECONDS, "s"),
    (RATE, "Hz"),
    (CHANNELS, ""),
    (OBJECTS, "an image"),
)


class Distribution(BaseModel):
    """How one property of the files is distributed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    unit: str
    smallest: float | None = None
    median: float | None = None
    largest: float | None = None
    bars: tuple[tuple[str, int], ...] = Field(description="What a bar stands for, and how many files.")


def distributions_of(manifest: Manifest, standings: Sequence[Standing]) -> tuple[Distribution, ...]:
    """What is known of the files; none for tables."""
    found = []
    for name, unit in _SHOWN:
        parts = [standing.media[name] for standing in standings if name in standing.media]
        if not parts:
            continue
        values = np.concatenate(parts)
        if name == OBJECTS:
            values = values[np.concatenate([standing.media[LABELLED] for standing in standings])]
        values = values[values >= 0]
        if len(values):
            found.append(_modes(values) if name == MODE else _distribution(name, unit, values))
    return tuple(found)


def _modes(codes: np.ndarray) -> Distribution:
    numbers, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    names = [*MODES, OTHER_MODE]
    bars = [(names[int(numbers[place])], int(counts[place])) for place in order[:BARS]]
    return Distribution(name=MODE, unit="", bars=tuple(bars))


def _distribution(name: str, unit: str, values: np.ndarray) -> Distribution:
    numbers, counts = np.unique(values, return_counts=True)
    if len(numbers) <= BARS:
        bars = [(f"{number:,g}", int(count)) for number, count in zip(numbers, counts, strict=True)]
    else:
        edges = _edges(float(numbers[0]), float(numbers[-1]), bool(values.dtype.kind == "i"))
        heights, _ = np.histogram(values, edges)
        bars = [
            (f"{low:,g} to {high:,g}", int(height))
            for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True)
        ]
    return Distribution(
        name=name,
        unit=unit,
        smallest=float(numbers[0]),
        median=float(np.median(values)),
        largest=float(numbers[-1]),
        bars=tuple(bars),
    )


def _edges(low: float, high: float, whole: bool) -> np.ndarray:
    """Round edges of up to `BARS` bars; doubling ones where the largest dwarfs the smallest."""
    if low > 0 and high / low > 2**BARS:
        edges = np.geomspace(low, high, BARS + 1)
    else:
        edges = np.linspace(low, high, BARS + 1)
    if whole and high - low >= BARS:
        edges = np.unique(np.round(edges))
    else:
        edges = np.array([float(f"{edge:.3g}") for edge in edges])
        edges[0], edges[-1] = low, high
        edges = np.unique(edges)
    edges[0], edges[-1] = low, high
    return edges
