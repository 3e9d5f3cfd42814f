"""Run-length masks of COCO: runs of background and object in turn, column after column."""

from __future__ import annotations

import json
from typing import Any

import numpy as np


def decode(rle: str | dict[str, Any]) -> np.ndarray:
    """The mask, bool [height, width], of `{"size": [height, width], "counts": …}`, as JSON or parsed.

    Counts are a list of numbers, or the text into which COCO's own tools press it.

    Raises:
        ValueError: This is no such mask.
    """
    given = json.loads(rle) if isinstance(rle, str) else rle
    try:
        height, width = (int(side) for side in given["size"])
        runs = given["counts"]
        counts = np.asarray(_unpressed(runs) if isinstance(runs, str) else runs, np.int64)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        raise ValueError("a mask needs a size and counts") from None
    if counts.ndim != 1 or (counts < 0).any() or height < 1 or width < 1 or counts.sum() != height * width:
        raise ValueError(f"the counts of the mask do not add up to {width} × {height} pixels")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def encode(mask: np.ndarray) -> str:
    """The mask as JSON, with counts as a list."""
    height, width = mask.shape
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return json.dumps({"size": [height, width], "counts": [0, *counts] if flat[0] else counts})


def _unpressed(text: str) -> list[int]:
    """Counts from COCO's text: 5 bits a letter, the sixth says that more follow.

    From the fourth on they are differences to the count two before.
    """
    counts: list[int] = []
    place = 0
    while place < len(text):
        value = shift = 0
        more = True
        while more:
            letter = ord(text[place]) - 48
            if not 0 <= letter < 64 or shift > 60:
                raise ValueError("not the text of a mask")
            value |= (letter & 0x1F) << shift
            more = bool(letter & 0x20)
            place += 1
            shift += 5
            if not more and letter & 0x10:
                value |= -1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts
