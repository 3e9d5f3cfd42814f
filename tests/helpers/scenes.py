"""Photographs of six kinds for trainings: crops of the two real pictures that scikit-learn ships.

A kind is a third of one of the pictures. Crops reach over the borders between thirds, and differ in size,
turn, brightness and noise, so that a network is neither always right nor guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from PIL import Image, ImageEnhance

from tasks.data.formats.images import png
from tasks.data.manifest import Feature, FittedStep
from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef, Problem
from tests.helpers.stored_datasets import image_table

KINDS = ("building-left", "building-middle", "building-right", "flower-left", "flower-middle", "flower-right")
ROWS_OF_A_SHARD = 1_000


def scenes(count: int, side_px: int, *, first: int = 0, workers: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Crops, no two alike.

    Args:
        count: How many; kinds take turns.
        side_px: Width and height.
        first: Number of the first one: the same numbers give the same crops.
        workers: Processes that make them.

    Returns:
        uint8 `[count, side_px, side_px, 3]`, and int64 `[count]`.
    """
    numbers = np.arange(first, first + count)
    parts = [part for part in np.array_split(numbers, max(1, count // 500)) if len(part)]
    if len(parts) == 1:
        return _crops(side_px, parts[0]), numbers % len(KINDS)
    with ProcessPoolExecutor(workers) as pool:
        return np.concatenate(list(pool.map(partial(_crops, side_px), parts))), numbers % len(KINDS)


def _crops(side_px: int, numbers: np.ndarray) -> np.ndarray:
    from sklearn.datasets import load_sample_images

    whole = [Image.fromarray(image) for image in load_sample_images().images]
    return np.stack([_crop(whole, int(number), side_px) for number in numbers])


def _crop(whole: list[Image.Image], number: int, side_px: int) -> np.ndarray:
    random = np.random.default_rng(number)
    picture, third = divmod(number % len(KINDS), 3)
    image = whole[picture]
    crop_px = int(random.integers(70, 200))
    middle = image.width * (third + random.uniform(0.1, 0.9)) / 3
    left = int(np.clip(middle - crop_px / 2, 0, image.width - crop_px))
    top = int(random.integers(0, image.height - crop_px))
    crop = image.crop((left, top, left + crop_px, top + crop_px)).resize((side_px, side_px))
    crop = crop.rotate(float(random.uniform(-30, 30)), Image.Resampling.BILINEAR)
    crop = ImageEnhance.Brightness(crop).enhance(float(random.uniform(0.4, 1.6)))
    if random.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    noise = random.normal(0, random.uniform(5, 35), (side_px, side_px, 1))
    return np.clip(np.asarray(crop) + noise, 0, 255).astype(np.uint8)


def store_pictures(
    store: DatasetStore,
    name: str,
    splits: dict[str, tuple[np.ndarray, np.ndarray]],
    classes: Sequence[str] = KINDS,
) -> DatasetRef:
    """Store arrays as the preprocessing step leaves them: a prepared version, in shards.

    Args:
        store: Where to.
        name: Dataset.
        splits: uint8 `[n, height, width, 1 or 3]` and int64 `[n]` by split.
        classes: Class names in label order.
    """
    with store.writer(name) as writer:
        files = []
        for split, (images, labels) in splits.items():
            shards = -(-len(images) // ROWS_OF_A_SHARD)
            for shard in range(shards):
                rows = range(shard * ROWS_OF_A_SHARD, min(len(images), (shard + 1) * ROWS_OF_A_SHARD))
                contents = [png(Image.fromarray(images[row].squeeze())) for row in rows]
                ids = [f"{split}/{row}.png" for row in rows]
                table = image_table(ids, contents, [int(labels[row]) for row in rows], tuple(classes))
                files.append(writer.target.write(split, shard, shards, table))
        return writer.commit(
            files, problem=Problem.IMAGE_CLASSIFICATION, features=(Feature(name="image", type="image"),),
            label="label", classes=tuple(classes), parent=None, method="ingest:test",
            parameters={}, preprocessing=(FittedStep(method="resize"),), source="test",
        )  # fmt: skip
