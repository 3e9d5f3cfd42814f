"""How fast images come in, are made ready, and are read again: against Pillow and Hugging Face `datasets`.

    pytest -m benchmark tests/benchmarks/test_image_speed.py -s

All sides do the work in turn, `ROUNDS` times; what is reported is the median ratio with its spread.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster
from PIL import Image

from tasks.data.config import IngestConfig, PreprocessConfig, StepConfig
from tasks.data.ingest import ingest
from tasks.data.methods import PreprocessingMethod
from tasks.data.preparation.preprocess import preprocess
from tasks.data.read import ImageSplit, read_split
from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef
from tests.helpers.photographs import write_photographs

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

COUNT = 20_000
READ_COUNT = 6_000
SIDE_PX = 150
WORKERS = 2
ROUNDS = 3


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two warm worker processes, as a flow's second step finds them."""
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        client.run(lambda: __import__("tasks.data.preparation.preprocess"))
        yield client


def ours(photographs: Path, folder: Path, client: Client) -> tuple[DatasetStore, DatasetRef]:
    """Ingest (every file decoded to check it, originals kept) and preprocess, into two versions."""
    store = DatasetStore(str(folder))
    raw = ingest(IngestConfig(source=str(photographs), name="photographs"), store, client)
    size = {"width_px": SIDE_PX, "height_px": SIDE_PX}
    steps = (StepConfig(method=PreprocessingMethod("resize"), parameters=size),)
    return store, preprocess(raw, PreprocessConfig(steps=steps), store, client)


def pillow_loop(photographs: Path, folder: Path, client: Client) -> None:
    """One process: keep the original, decode, resize, write the result without loss, at Pillow's fastest."""
    for path in sorted(photographs.rglob("*.jpg")):
        target = folder / path.relative_to(photographs)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        with Image.open(path) as image:
            small = image.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
        small.save(target.with_suffix(".png"), compress_level=0)


def hugging_face(photographs: Path, folder: Path, client: Client) -> None:
    """`datasets`: read the folder of labels, resize with as many processes, written as Arrow."""
    import datasets

    datasets.disable_progress_bars()
    data: Any = datasets.load_dataset(
        "imagefolder", data_dir=str(photographs), split="train", cache_dir=str(folder)
    )
    data.map(_resized, batched=True, batch_size=500, num_proc=WORKERS)


def _resized(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    size = (SIDE_PX, SIDE_PX)
    return {
        "image": [one.convert("RGB").resize(size, Image.Resampling.BILINEAR) for one in batch["image"]],
        "label": batch["label"],
    }


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def show(what: str, ratios: list[float], least: float) -> None:
    middle = statistics.median(ratios)
    print(f"\n| {what} | {middle:.2f} × | {min(ratios):.2f} to {max(ratios):.2f} | {least} × |")
    assert middle >= least, what


def test_ingest_and_resize(photographs: Path, client: Client, tmp_path: Path) -> None:
    sides = {"ours": ours, "pillow": pillow_loop, "hugging face": hugging_face}
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            folder = tmp_path / "out"
            folder.mkdir()
            took[name].append(seconds(lambda side=side, folder=folder: side(photographs, folder, client)))
            shutil.rmtree(folder)
    for name, times in took.items():
        print(f"\n{name}: {COUNT / statistics.median(times):,.0f} images a second")
    for name, least in (("pillow", 1.7), ("hugging face", 1.0)):
        ratios = [other / own for own, other in zip(took["ours"], took[name], strict=True)]
        show(f"ingest and resize {COUNT:,} JPEG files, against {name}", ratios, least)


def test_reading_for_training(client: Client, tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    write_photographs(photographs, READ_COUNT)
    store, ref = ours(photographs, tmp_path / "store", client)
    train = store.open(ref).splits["train"]
    paths = sorted(photographs.rglob("*.jpg"))[:train]
    small = tmp_path / "small"
    small.mkdir()
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            image.resize((SIDE_PX, SIDE_PX)).save(small / f"{number}.jpg", quality=90)
    same_size = sorted(small.iterdir())

    def stored() -> None:
        split = read_split(store, ref, "train")
        assert isinstance(split, ImageSplit)
        assert split.images.shape == (train, SIDE_PX, SIDE_PX, 3)

    def loose(files: list[Path]) -> None:
        with Image.open(files[0]) as first:
            images = np.empty((len(files), *np.asarray(first).shape), np.uint8)
        for place, file in enumerate(files):
            with Image.open(file) as image:
                images[place] = np.asarray(image)

    ratios: dict[str, list[float]] = {"as they came, 256 px": [], f"of the same size, {SIDE_PX} px": []}
    for turn in range(ROUNDS + 1):
        own = seconds(stored)
        for name, files in zip(ratios, (paths, same_size), strict=True):
            ratio = seconds(lambda files=files: loose(files)) / own
            if turn:  # the first round warms memory and the disk's cache up
                ratios[name].append(ratio)
        print(f"\nread_split: {train / own:,.0f} images a second")
    for name, values in ratios.items():
        show(f"reading for training, against decoding loose JPEG files {name}", values, 3.0)
