"""Small data sets, and stores on a disk and on an S3 server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client

from tasks.data.sources.staging import staging_folder
from tasks.data.storage.store import DatasetStore
from tests.helpers.dask_clusters import two_workers
from tests.helpers.random_images import encoded, picture
from tests.helpers.s3_server import empty_folder, s3_server
from tests.helpers.table_files import Write


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return DatasetStore(str(tmp_path / "store"))


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes `<split>/<label>/<n>.png`, different pixels in every file."""

    def write(
        splits: tuple[str, ...] = ("train", "validation", "test"),
        labels: tuple[str, ...] = ("cat", "dog"),
        each: int = 4,
        mode: str = "L",
        side_px: int = 8,
    ) -> Path:
        root = tmp_path / "pictures"
        seed = 0
        for split in splits:
            for label in labels:
                folder = root / split / label
                folder.mkdir(parents=True, exist_ok=True)
                for number in range(each):
                    seed += 1
                    image = picture(seed, side_px, side_px, mode)
                    (folder / f"{number}.png").write_bytes(encoded(image))
        return root

    return write


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with two_workers() as client:
        yield client


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, object]]:
    """fsspec options for an S3 server."""
    with s3_server() as options:
        yield options


@pytest.fixture
def s3_folder(s3: dict[str, object]) -> Iterator[str]:
    """URL of an empty folder on the S3 server."""
    with empty_folder(s3) as url:
        yield url


@pytest.fixture(params=["local", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> DatasetStore:
    """A store of every kind that is supported: the same tests run on each."""
    if request.param == "local":
        return DatasetStore(str(tmp_path / "store"))
    return DatasetStore(request.getfixturevalue("s3_folder"), request.getfixturevalue("s3"))


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever happens, nothing unpacked may stay."""
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "home"))
    yield
    assert not staging_folder().exists() or list(staging_folder().iterdir()) == []


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files, text or bytes or an Arrow table, by name; gives their folder."""

    def run(folder: str = "source", /, **files: Any) -> Path:
        for name, content in files.items():
            stem, _, suffix = name.replace("__", "/").rpartition("_")
            path = tmp_path / folder / f"{stem}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, pa.Table):
                pq.write_table(content, path, row_group_size=4)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / folder

    return run
