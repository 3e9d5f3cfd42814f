"""Ingest and preprocessing killed at random moments: nothing half-made is seen, and all of it is swept."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tasks.data.sources.staging import sweep
from tasks.data.storage.remains import remove_remains
from tasks.data.storage.store import DatasetStore

pytestmark = pytest.mark.faults

REPOSITORY = Path(__file__).parents[2]
KILLS = 8

WORK = """
import sys
from distributed import Client, LocalCluster
from tasks.data.config import IngestConfig, PreprocessConfig
from tasks.data.ingest import ingest
from tasks.data.preparation.preprocess import preprocess
from tasks.data.storage.store import DatasetStore

if __name__ == "__main__":
    store = DatasetStore(sys.argv[1])
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        with Client(cluster) as client:
            print("begins", flush=True)
            raw = ingest(IngestConfig(source=sys.argv[2], name="pets"), store, client)
            print(raw.version, flush=True)
            print(preprocess(raw, PreprocessConfig(), store, client).version, flush=True)
"""


def started(store: str, source: Path, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORK, store, str(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TRAINYARD_HOME": str(home)},
    )


def images(target: Path, count: int = 600) -> None:
    """A zip of pictures of noise, in two classes, without splits."""
    random_pixels = np.random.default_rng(0)
    with zipfile.ZipFile(target, "w") as archive:
        for number in range(count):
            pixels = random_pixels.integers(0, 256, (64, 64, 3), np.uint8)
            with archive.open(f"train/{'ab'[number % 2]}/{number}.png", "w") as file:
                Image.fromarray(pixels).save(file, "PNG")


def test_killed_steps_leave_nothing_to_see_and_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, source = tmp_path / "home", tmp_path / "pictures.zip"
    monkeypatch.setenv("TRAINYARD_HOME", str(home))
    images(source)
    store = DatasetStore(str(tmp_path / "store"))
    began = time.monotonic()
    with started(str(tmp_path / "whole"), source, home) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        begins = time.monotonic()
        promised = process.stdout.read().split()
    assert len(promised) == 2, "the work itself fails"
    lasts_s = time.monotonic() - begins

    chance = random.Random(11)
    seen: set[str] = set()
    for _ in range(KILLS):
        process = started(store.url, source, home)
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        children = psutil.Process(process.pid).children(recursive=True)
        time.sleep(chance.uniform(0, lasts_s))  # the moment is what is tested
        process.kill()
        said = process.communicate()[0].split()
        psutil.wait_procs(children, timeout=30)  # Dask's workers end when they lose their parent
        there = {one.version: one for one in store.list("pets")}
        assert seen <= set(there)
        assert set(said) <= set(there)
        for one in there.values():
            store.verify(store.ref(one), deep=True)
        seen = set(there)
        remove_remains(store)
        sweep()
        assert set(store.all_versions("pets")) == seen
        assert not list((home / "staging").glob("*"))
    with started(store.url, source, home) as process:
        last = process.communicate()[0].split()[1:]
    manifests = [store.get("pets", version) for version in last]
    assert [one.rows for one in manifests] == [600, 600]
    assert manifests[1].parent == manifests[0].version
    assert time.monotonic() - began < 500
