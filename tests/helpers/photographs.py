"""Many photographs on disk: crops of the two real ones that scikit-learn ships."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

LABELS = ("building", "flower")


def write_photographs(folder: Path, count: int, side_px: int = 256, workers: int = 2) -> None:
    """Write `<folder>/<label>/<number>.jpg`, no two alike, JPEG quality 90."""
    for label in LABELS:
        (folder / label).mkdir(parents=True, exist_ok=True)
    if count < 1_000:
        _write(folder, range(count), side_px)
        return
    with ProcessPoolExecutor(workers) as pool:
        parts = [range(start, count, workers) for start in range(workers)]
        for done in [pool.submit(_write, folder, part, side_px) for part in parts]:
            done.result()


def _write(folder: Path, numbers: range, side_px: int) -> None:
    from sklearn.datasets import load_sample_images

    whole = [Image.fromarray(image) for image in load_sample_images().images]
    for number in numbers:
        random = np.random.default_rng(number)
        image = whole[number % 2]
        crop_px = int(random.integers(200, 420))
        left = int(random.integers(0, image.width - crop_px))
        top = int(random.integers(0, image.height - crop_px))
        crop = image.crop((left, top, left + crop_px, top + crop_px)).resize((side_px, side_px))
        crop.save(folder / LABELS[number % 2] / f"{number:06d}.jpg", quality=90)
