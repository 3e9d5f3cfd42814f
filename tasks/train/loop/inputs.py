"""From the rows of a fit to tensors, and to the numbers that bring them to the network's scale."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch

from tasks.train.algorithms.fit import Rows, TrainingData
from tasks.train.loop.batches import TensorRows
from tasks.train.models.network import Scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

BYTES_AT_ONCE = 2**24
"""Images are looked at in parts of this size: large splits are mapped from a file, not in memory."""


def scale_of(data: TrainingData) -> Scale:
    """Means and deviations of the training rows."""
    inputs = data.train.inputs
    if inputs.dtype == np.uint8:
        mean, deviation = _image_scale(inputs)
    else:
        mean, deviation = inputs.mean(axis=0), inputs.std(axis=0)
    deviation = np.where(deviation > 1e-8, deviation, 1.0)
    columns = tuple(map(float, mean)), tuple(map(float, deviation))
    if data.problem.is_classification:
        return Scale(*columns)
    spread = float(data.train.labels.std())
    return Scale(*columns, float(data.train.labels.mean()), spread if spread > 1e-8 else 1.0)


def _image_scale(images: NDArray[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each channel, exact, from counts of the 256 values."""
    channels = images.shape[3]
    counts = np.zeros((channels, 256))
    at_once = max(1, BYTES_AT_ONCE // max(1, images[0].size))
    for start in range(0, len(images), at_once):
        part = images[start : start + at_once]
        for channel in range(channels):
            counts[channel] += np.bincount(part[..., channel].reshape(-1), minlength=256)
    values = np.arange(256, dtype=np.float64)
    rows = counts.sum(axis=1)
    mean = counts @ values / rows
    variance = (counts * np.square(values - mean[:, None])).sum(axis=1) / rows
    return mean, np.sqrt(variance)


def tensor_rows(rows: Rows, scale: Scale, data: TrainingData) -> TensorRows:
    """Rows as the loop takes them: images as they are, without a copy; tables scaled once and for all."""
    inputs = torch.from_numpy(np.ascontiguousarray(rows.inputs))
    if inputs.dtype != torch.uint8:
        inputs = scale.apply(inputs.to(torch.float64))
    if data.problem.is_classification:
        return TensorRows(inputs, torch.from_numpy(rows.labels.astype(np.int64)))
    scaled = (rows.labels - scale.label_mean) / scale.label_deviation
    return TensorRows(inputs, torch.from_numpy(scaled.astype(np.float32)))


def data_digest(data: TrainingData) -> str:
    """SHA-256 over the problem, and the rows that are trained on and watched."""
    digest = hashlib.sha256(f"{data.problem}{data.outputs}".encode())
    for rows in (data.train, data.validation):
        if rows is not None:
            for array in (rows.inputs, rows.labels):
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
