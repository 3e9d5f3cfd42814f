"""What the store promises: versions are immutable, appear at once or not at all, and are never mixed up."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.data.manifest import Feature, FileEntry
from tasks.data.read import read_split
from tasks.data.storage.remains import remove_remains
from tasks.data.storage.store import DatasetStore
from tasks.data.storage.writer import DatasetWriter
from tasks.errors import Damaged, InvalidData, InvalidSettings, NotFound
from tasks.refs import DatasetRef, Problem
from tests.helpers.stored_datasets import image_table

from .conftest import encoded, picture


def write_shards(writer: DatasetWriter, seed: int, rows: int = 3) -> list[FileEntry]:
    files = []
    for split in ("train", "test"):
        ids = [f"{split}/{row}.png" for row in range(rows)]
        contents = [encoded(picture(seed * 1000 + row)) for row in range(rows)]
        table = image_table(ids, contents, [row % 2 for row in range(rows)], ("a", "b"))
        files.append(writer.target.write(split, 0, 1, table))
    return files


def commit(writer: DatasetWriter, files: list[FileEntry], parent: str | None = None) -> DatasetRef:
    return writer.commit(
        files,
        problem=Problem.IMAGE_CLASSIFICATION,
        features=(Feature(name="image", type="image"),),
        label="label",
        classes=("a", "b"),
        parent=parent,
        method="test",
        parameters={},
        preprocessing=(),
        source="made by a test",
    )


def put(store: DatasetStore, name: str = "pets", seed: int = 0) -> DatasetRef:
    with store.writer(name) as writer:
        return commit(writer, write_shards(writer, seed))


def test_a_version_is_read_as_it_was_written(any_store: DatasetStore) -> None:
    ref = put(any_store)
    assert any_store.list() == [any_store.open(ref)]
    assert any_store.open(ref).splits == {"train": 3, "test": 3}
    any_store.verify(ref, deep=True)
    split = read_split(any_store, ref, "train")
    assert split.images.shape == (3, 8, 8, 1)
    assert split.labels.tolist() == [0, 1, 0]
    assert split.ids == ["train/0.png", "train/1.png", "train/2.png"]


def test_a_version_is_invisible_until_it_is_committed(any_store: DatasetStore) -> None:
    with any_store.writer("pets") as writer:
        files = write_shards(writer, 0)
        assert any_store.list() == []
        with pytest.raises(NotFound, match="no dataset named pets"):
            any_store.get("pets")
        ref = commit(writer, files)
    assert any_store.get("pets").digest == ref.digest


def test_an_error_while_writing_leaves_nothing(any_store: DatasetStore) -> None:
    def fail() -> None:
        with any_store.writer("pets") as writer:
            write_shards(writer, 0)
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail()
    assert any_store.fs.find(any_store.root) == []


def test_the_same_content_is_one_version(any_store: DatasetStore) -> None:
    first = put(any_store)
    files = len(any_store.fs.find(any_store.root))
    assert put(any_store) == first
    assert len(any_store.fs.find(any_store.root)) == files
    assert put(any_store, seed=1) != first
    assert put(any_store, name="zoo").digest != first.digest


def test_a_damaged_version_is_not_taken_for_the_same_content(any_store: DatasetStore) -> None:
    first = put(any_store)
    folder = any_store.folder(first.name, first.version)
    any_store.fs.rm_file(f"{folder}/{any_store.open(first).files[0].path}")
    second = put(any_store)
    assert second.version != first.version
    any_store.verify(second, deep=True)


def test_newest_comes_first_and_latest_is_the_newest(any_store: DatasetStore) -> None:
    refs = [put(any_store, seed=seed) for seed in range(3)]
    assert [one.version for one in any_store.list("pets")] == [ref.version for ref in reversed(refs)]
    assert any_store.ref(any_store.get("pets")) == refs[-1]
    assert any_store.ref(any_store.get("pets", refs[0].version)) == refs[0]


def test_two_writers_of_one_name_lose_nothing(any_store: DatasetStore) -> None:
    with ThreadPoolExecutor(max_workers=4) as pool:
        refs = list(pool.map(lambda seed: put(any_store, seed=seed), range(4)))
    assert len({ref.version for ref in refs}) == 4
    for ref in refs:
        any_store.verify(ref, deep=True)
    assert len(any_store.list("pets")) == 4


@pytest.mark.parametrize("fault", ["missing", "short", "other", "manifest", "no manifest"])
def test_damage_is_found(any_store: DatasetStore, fault: str) -> None:
    ref = put(any_store)
    folder = any_store.folder(ref.name, ref.version)
    file = f"{folder}/{any_store.open(ref).files[0].path}"
    content = any_store.fs.cat_file(file)
    if fault == "missing":
        any_store.fs.rm_file(file)
    elif fault == "short":
        any_store.fs.pipe_file(file, content[:-1])
    elif fault == "other":
        any_store.fs.pipe_file(file, content[:-1] + b"!")
    elif fault == "manifest":
        text = any_store.fs.cat_file(f"{folder}/manifest.json").replace(b'"a"', b'"z"')
        any_store.fs.pipe_file(f"{folder}/manifest.json", text)
    else:
        any_store.fs.rm_file(f"{folder}/manifest.json")
    with pytest.raises(NotFound if fault == "no manifest" else Damaged):
        any_store.verify(ref, deep=True)


def test_a_reference_with_another_digest_does_not_open(store: DatasetStore) -> None:
    ref = put(store)
    with pytest.raises(Damaged, match="digest"):
        store.open(ref.model_copy(update={"digest": "0" * 64}))


@pytest.mark.parametrize("name", ["../pets", "Pets", "", "a/b", ".hidden", "a" * 64, "a\0b"])
def test_names_that_lead_elsewhere_are_refused(store: DatasetStore, name: str) -> None:
    with pytest.raises(InvalidSettings, match="cannot be a dataset name"):
        store.get(name)
    with pytest.raises(InvalidSettings), store.writer(name):
        pass


@pytest.mark.parametrize("version", ["..", "20260101-000000-00000g", "../../x", ""])
def test_versions_that_lead_elsewhere_are_not_found(store: DatasetStore, version: str) -> None:
    put(store)
    with pytest.raises(NotFound, match="has no version"):
        store.get("pets", version)


def test_no_rows_are_no_version(store: DatasetStore) -> None:
    with pytest.raises(InvalidData, match="No row is left"), store.writer("pets") as writer:
        commit(writer, write_shards(writer, 0, rows=0))
    assert store.list() == []


WRITE_AND_WAIT = """
import sys
from tasks.data.storage.store import DatasetStore
from tests.helpers.stored_datasets import image_table
with DatasetStore(sys.argv[1]).writer("pets") as writer:
    writer.target.write("train", 0, 1, image_table(["1"], [b"x"], [0], ("a",)))
    print("written", flush=True)
    sys.stdin.read()
"""

WRITE_ON = """
import sys
from tasks.data.storage.store import DatasetStore
from tests.unit.data.test_dataset_store import put
store, seed = DatasetStore(sys.argv[1]), int(sys.argv[2])
print("begins", flush=True)
while True:
    seed += 1
    print(put(store, seed=seed).version, flush=True)
"""


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )


def test_a_killed_writer_leaves_nothing_to_see_and_is_swept_at_once(store: DatasetStore) -> None:
    with started(WRITE_AND_WAIT, store.url) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        assert remove_remains(store) == []  # it lives: its lock is held
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert len(store.fs.glob(f"{store.root}/**/*.parquet")) == 1
    assert store.list() == []

    kept = put(store)
    assert len(remove_remains(store)) == 1
    assert [one.version for one in store.list()] == [kept.version]
    assert store.all_versions("pets") == [kept.version]
    store.verify(kept, deep=True)


@pytest.mark.faults
def test_writers_killed_at_random_moments_lose_and_spoil_nothing(store: DatasetStore) -> None:
    chance = random.Random(7)
    promised: set[str] = set()
    for turn in range(12):
        writers = [started(WRITE_ON, store.url, str(10_000 * turn + 5_000 * one)) for one in range(2)]
        for process in writers:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
        time.sleep(chance.uniform(0, 0.3))  # the moment is what is tested
        for process in writers:
            process.kill()
        for process in writers:
            promised |= {line for line in process.communicate()[0].split("\n")[:-1] if line}
    there = store.list("pets")
    assert promised <= {one.version for one in there}
    for one in there:
        store.verify(store.ref(one), deep=True)
    remove_remains(store)
    assert sorted(store.all_versions("pets")) == sorted(one.version for one in there)
    assert len(promised) > 12


def test_sweeping_leaves_versions_and_living_writers_alone(any_store: DatasetStore) -> None:
    ref = put(any_store)
    with any_store.writer("pets") as writer:
        files = write_shards(writer, 1)
        assert remove_remains(any_store, older_than_s=600) == []
        commit(writer, files)
    assert remove_remains(any_store, older_than_s=-3600) == []
    any_store.verify(ref, deep=True)
    assert len(any_store.list()) == 2
    names = {path.rsplit("/", 1)[-1] for path in any_store.fs.find(any_store.root)}
    assert names == {
        "manifest.json",
        "dataset.json",
        "train-00000-of-00001.parquet",
        "test-00000-of-00001.parquet",
    }


def test_remains_on_an_object_store_go_by_age(s3: dict[str, object], s3_folder: str) -> None:
    store = DatasetStore(s3_folder, s3)
    begun = DatasetWriter(store, "pets", "20260101-000000-abcdef")
    write_shards(begun, 0)
    assert remove_remains(store, older_than_s=3600) == []  # begun long ago, written to just now
    assert remove_remains(store, older_than_s=-3600) == [store.folder("pets", begun.version)]
    assert store.fs.find(store.root) == []


def test_writers_and_sweepers_at_once_lose_nothing(store: DatasetStore) -> None:
    with ThreadPoolExecutor(max_workers=4) as pool:
        sweeping = [pool.submit(lambda: [remove_remains(store) for _ in range(60)]) for _ in range(2)]
        refs = list(pool.map(lambda seed: put(store, seed=seed), range(12)))
        for one in sweeping:
            one.result()
    assert {one.version for one in store.list("pets")} == {ref.version for ref in refs}
    for ref in refs:
        store.verify(ref, deep=True)


def test_a_version_whose_shards_vanished_before_the_end_does_not_appear(any_store: DatasetStore) -> None:
    def lose() -> None:
        with any_store.writer("pets") as writer:
            files = write_shards(writer, 0)
            any_store.fs.rm_file(f"{any_store.folder('pets', writer.version)}/{files[0].path}")
            commit(writer, files)

    with pytest.raises(Damaged, match="1 of 2 shards are gone"):
        lose()
    assert any_store.list() == []


def test_a_deleted_version_is_gone_with_its_files_and_the_others_stay(any_store: DatasetStore) -> None:
    gone, kept = put(any_store), put(any_store, seed=1)
    any_store.delete("pets", gone.version)
    with pytest.raises(NotFound, match="has no version"):
        any_store.open(gone)
    any_store.verify(kept, deep=True)
    assert any_store.all_versions("pets") == [kept.version]
    any_store.delete("pets", kept.version)
    assert any_store.fs.find(any_store.root) == []
    assert any_store.names() == []
    assert any_store.open(put(any_store)).rows == 6  # the name is free again


def test_a_version_that_was_cut_off_while_it_was_deleted_is_not_seen_and_is_swept(
    store: DatasetStore,
) -> None:
    gone, kept = put(store), put(store, seed=1)
    store.fs.rm_file(f"{store.folder('pets', gone.version)}/manifest.json")  # what delete does first
    assert [one.version for one in store.list("pets")] == [kept.version]
    assert remove_remains(store) == [store.folder("pets", gone.version)]


def test_a_damaged_version_can_be_deleted(store: DatasetStore) -> None:
    ref = put(store)
    store.fs.pipe_file(f"{store.folder('pets', ref.version)}/manifest.json", b"{")
    store.delete("pets", ref.version)
    assert store.list() == []


def test_a_version_is_not_made_from_one_that_was_deleted_meanwhile(any_store: DatasetStore) -> None:
    raw = put(any_store)

    def make() -> None:
        with any_store.writer("pets") as writer:
            files = write_shards(writer, 1)
            any_store.delete("pets", raw.version)
            commit(writer, files, parent=raw.version)

    with pytest.raises(NotFound, match="was deleted while another was made from it"):
        make()
    assert any_store.list() == []


def test_hugging_face_datasets_reads_the_shards(store: DatasetStore, tmp_path: Path) -> None:
    import datasets

    ref = put(store)
    files = f"{ref.url}/data/train-*.parquet"
    read = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "hf"))
    assert read.features["label"].names == ["a", "b"]
    assert read[1]["label"] == 1
    assert read[1]["image"].tobytes() == picture(1).tobytes()
