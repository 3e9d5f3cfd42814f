"""Real data sets that need no download, written out in the layouts that ingest reads.

`digits` and `iris` are the UCI data that scikit-learn ships; `fashion-mnist` are the 70,000 images of
Debian's package `dataset-fashion-mnist`.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import secrets
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import InvalidSettings, NotFound
from tasks.home import home

if TYPE_CHECKING:
    import numpy as np

SAMPLES = ("digits", "iris", "fashion-mnist")
FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_CLASSES = (
    "t-shirt-top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
"""In the order of the published integer labels."""

VALIDATION_IMAGES = 5_000
"""Fashion-MNIST has no validation split: so many of the 60,000 training images become one."""

SEED = 0
PARTS = 4


def samples_folder() -> Path:
    """Where samples are written unless the caller says otherwise."""
    return home() / "samples"


def require_sample(name: str) -> None:
    """Check that there is a sample of this name.

    Raises:
        InvalidSettings: There is none.
    """
    if name not in SAMPLES:
        raise InvalidSettings(f"There is no sample named {name!r}", allowed=", ".join(SAMPLES))


def materialise(name: str, folder: str | os.PathLike[str]) -> Path:
    """Write a sample below `folder`, unless it is there.

    The sample is written aside and renamed, so a run that is killed leaves none that is half complete.

    Args:
        name: digits, iris or fashion-mnist.
        folder: Where the sample's folder, named after it, belongs.

    Returns:
        What to ingest: the folder of images, or the CSV file.

    Raises:
        InvalidSettings: There is no sample of that name.
        NotFound: The Debian package is not installed.
    """
    writers: dict[str, tuple[Callable[[Path], None], str]] = {
        "digits": (_write_digits, ""),
        "iris": (_write_iris, "iris.csv"),
        "fashion-mnist": (_write_fashion_mnist, ""),
    }
    require_sample(name)
    write, product = writers[name]
    target = Path(folder) / name
    if not target.exists():
        aside = target.with_name(f".{name}-{secrets.token_hex(4)}")
        aside.mkdir(parents=True)
        try:
            write(aside)
            aside.rename(target)
        except OSError:
            if not target.exists():  # else another process was faster, and its sample is the same
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return target / product if product else target


def _write_iris(folder: Path) -> None:
    from sklearn.datasets import load_iris

    iris = load_iris()
    columns = [name.removesuffix(" (cm)").replace(" ", "_") + "_cm" for name in iris.feature_names]
    with (folder / "iris.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*columns, "species"])
        for values, label in zip(iris.data, iris.target, strict=True):
            writer.writerow([*(f"{value:.1f}" for value in values), iris.target_names[label]])


def _write_digits(folder: Path) -> None:
    """8 × 8 pixels with 17 grey levels, 0 to 16, spread over 0 to 255."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    parts = _stratified(digits.target, [0.15, 0.15])
    names = [str(digit) for digit in range(10)]
    for split, rows in zip(("validation", "test", "train"), parts, strict=True):
        _write_images(folder / split, pixels[rows], digits.target[rows], rows, names)


def _write_fashion_mnist(folder: Path) -> None:
    """28 × 28 grey pixels."""
    import numpy as np

    names = list(FASHION_MNIST_CLASSES)
    # Integer labels keep the meaning that everyone who knows this data set expects.
    order = {str(index): name for index, name in enumerate(names)}
    (folder / "label_names.json").write_text(json.dumps(order, indent=1) + "\n")
    pixels, labels = _read_idx("train-images-idx3-ubyte.gz"), _read_idx("train-labels-idx1-ubyte.gz")
    validation, train = _stratified(labels, [VALIDATION_IMAGES / len(labels)])
    jobs = [
        (folder / split, pixels[part], labels[part], part, names)
        for split, rows in (("validation", validation), ("train", train))
        for part in np.array_split(rows, PARTS)
    ]
    pixels, labels = _read_idx("t10k-images-idx3-ubyte.gz"), _read_idx("t10k-labels-idx1-ubyte.gz")
    jobs.append((folder / "test", pixels, labels, np.arange(len(labels)), names))
    with ProcessPoolExecutor(max_workers=min(PARTS, os.cpu_count() or 1)) as pool:
        for job in [pool.submit(_write_images, *job) for job in jobs]:
            job.result()


def _read_idx(name: str) -> np.ndarray:
    """An IDX file of unsigned bytes: big-endian magic, sizes of the dimensions, values."""
    import numpy as np

    path = FASHION_MNIST_FOLDER / name
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(
            "The Fashion-MNIST images are not on this machine",
            where=str(path),
            mend="sudo apt-get install dataset-fashion-mnist",
        ) from None
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _stratified(labels: np.ndarray, shares: list[float]) -> list[np.ndarray]:
    """Row numbers in groups: one a share with that share of every class, and one with the rest."""
    import numpy as np

    generator = np.random.default_rng(SEED)
    groups: list[list[np.ndarray]] = [[] for _ in range(len(shares) + 1)]
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        cuts = np.round(np.cumsum(shares) * len(rows)).astype(int)
        for group, part in zip(groups, np.split(rows, cuts), strict=True):
            group.append(part)
    return [np.sort(np.concatenate(group)) for group in groups]


def _write_images(
    folder: Path, pixels: np.ndarray, labels: np.ndarray, rows: np.ndarray, names: list[str]
) -> None:
    """Write `<folder>/<class>/<row>.png`; pixels uint8 [n, height, width], labels and rows [n]."""
    from PIL import Image

    from tasks.data.formats.images import png

    for label in set(labels.tolist()):
        (folder / names[label]).mkdir(parents=True, exist_ok=True)
    for image, label, row in zip(pixels, labels.tolist(), rows.tolist(), strict=True):
        (folder / names[label] / f"{row:05d}.png").write_bytes(png(Image.fromarray(image)))
