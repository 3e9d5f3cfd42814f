"""Files that kill the process that reads them cost only themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, WorkerPlugin

from tasks.data import crashes
from tasks.data.config import IngestConfig
from tasks.data.ingest import ingest
from tasks.data.layouts import layout_of, media_rows
from tasks.data.read import shard_tables
from tasks.data.sources.source import opened
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData
from tasks.refs import Problem
from tests.helpers.dask_clusters import two_workers

from .conftest import encoded, picture

LETHAL = b"this file kills its reader"


class DiesOfLethalFiles(WorkerPlugin):
    """What a hostile file does to a decoder with a hole: the process is gone, without a word."""

    def setup(self, worker: Any) -> None:
        import os

        from PIL import Image

        plain_open = Image.open

        def open_or_die(file: Any, *arguments: Any, **more: Any) -> Any:
            if file.read(len(LETHAL)) == LETHAL:
                os._exit(139)
            file.seek(0)
            return plain_open(file, *arguments, **more)

        Image.open = open_or_die


@pytest.fixture(scope="module")
def mortal() -> Iterator[Client]:
    """Two worker processes that die of lethal files and are started again."""
    with two_workers() as client:
        client.register_plugin(DiesOfLethalFiles())
        yield client


def _zoo(root: Path, lethal: tuple[str, ...], each: int = 150) -> IngestConfig:
    for number in range(each):
        for place, label in enumerate(("cat", "dog")):
            path = root / label / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(picture(2 * number + place)))
    for name in lethal:
        (root / name).write_bytes(LETHAL)
    return IngestConfig(source=str(root), name="zoo", problem=Problem.IMAGE_CLASSIFICATION)


def _worker_ids(client: Client) -> set[int]:
    return set(client.run(os.getpid).values())


def test_files_that_kill_are_named_and_nothing_is_stored(
    mortal: Client, store: DatasetStore, tmp_path: Path
) -> None:
    before = _worker_ids(mortal)
    with pytest.raises(InvalidData) as refused:
        ingest(_zoo(tmp_path / "zoo", ("cat/007.png", "dog/140.png")), store, mortal)
    words = str(refused.value)
    assert "2 files cannot be read" in words
    assert "cat/007.png (the process that read it died)" in words
    assert "dog/140.png (the process that read it died)" in words
    assert store.list() == []
    mortal.wait_for_workers(2, timeout=60)
    assert _worker_ids(mortal) != before  # they did die


def test_the_other_files_come_in_where_that_is_wished(
    mortal: Client, store: DatasetStore, tmp_path: Path
) -> None:
    config = _zoo(tmp_path / "zoo", ("cat/000.png",)).model_copy(update={"unreadable": "leave-out"})
    (tmp_path / "zoo" / "dog" / "149.png").write_bytes(b"no image")
    heard: list[str] = []
    manifest = store.open(ingest(config, store, mortal, warn=heard.append))
    assert manifest.rows == 298
    assert manifest.left_out == {"unreadable": 2}
    assert "cat/000.png" in heard[0]
    assert "dog/149.png" in heard[0]
    assert manifest.parameters["left_out_files"] == [
        "cat/000.png (the process that read it died)",
        "dog/149.png (not an image of a known format)",
    ]
    ids = [key for table in shard_tables(store, manifest, "train") for key in table["id"].to_pylist()]
    assert ids == sorted(ids)
    assert len(set(ids)) == 298
    # Another reading, with other workers, gives the same version.
    assert ingest(config, store, mortal).version == manifest.version


def test_one_lost_worker_is_no_fault_of_the_files(
    mortal: Client, store: DatasetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is killed from outside loses its partition, which is read once more."""
    monkeypatch.setattr(media_rows, "MOST_ROWS", 128)
    config = _zoo(tmp_path / "zoo", ())
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        if not killed:
            killed.extend(pid for pid in _worker_ids(mortal))
            for pid in killed:
                os.kill(pid, 9)

    manifest = store.open(ingest(config, store, mortal, progress=kill))
    assert killed
    assert manifest.rows == 300
    assert manifest.left_out == {}


def test_a_lethal_file_is_found_in_few_deaths(
    mortal: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_rows, "MOST_ROWS", 256)
    config = _zoo(tmp_path / "zoo", ("cat/100.png",))
    with opened(config) as source:
        (partition, *_) = layout_of(source, config).read(source, config).partitions
    assert len(partition.names()) == 256
    found = crashes.sifted(partition, mortal)
    assert found.lethal == ("cat/100.png",)
    assert sorted(name for part in found.safe for name in part.names()) == sorted(
        set(partition.names()) - {"cat/100.png"}
    )
