"""Looking into a version: folders, rows and bytes that add up, and no file read that is not shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.data.browsing import Listing, browse, lines
from tasks.data.config import IngestConfig
from tasks.data.config_store import BrowseConfig
from tasks.data.ingest import ingest
from tasks.data.manifest import Manifest
from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged, InvalidSettings, NotFound
from tasks.refs import Problem
from tests.contracts.test_layouts import boxes, maps
from tests.helpers.stored_datasets import store_table
from tests.helpers.versions_in_pieces import image, store_media

CLASSES = ("cat", "dog")
PETS = [(f"train/{CLASSES[n // 4]}/{n % 4}.png", CLASSES[n // 4], 10 * (n % 4) + n // 4) for n in range(8)]
OTHERS = [("test/cat/deep/0.png", "cat", 70), ("test/cat/deep/1.png", "cat", 71), ("test/x.png", None, 99)]
ROWS = {"train": PETS, "test": OTHERS}


def put(store: DatasetStore) -> Manifest:
    rows = {
        split: [
            (key, image(seed, 8 + seed % 5), None if label is None else CLASSES.index(label))
            for key, label, seed in each
        ]
        for split, each in ROWS.items()
    }
    ref = store_media(store, rows, Problem.IMAGE_CLASSIFICATION, CLASSES, cuts=(3, 5), name="zoo")
    return store.open(ref)


def look(store: DatasetStore, manifest: Manifest, **how: Any) -> Listing:
    return browse(store, manifest, BrowseConfig(**how))


def counts(listing: Listing) -> dict[str, int]:
    return {name: folder.rows for name, folder in listing.folders.items()}


def ids(listing: Listing) -> list[str]:
    return [item.id for item in listing.items]


def test_folders_have_rows_and_bytes_that_add_up(any_store: DatasetStore) -> None:
    manifest = put(any_store)
    top = look(any_store, manifest)
    assert counts(top) == {"test": 3, "train": 8}
    assert top.rows == manifest.rows
    assert 0 < top.bytes < manifest.bytes  # the shards have tables of contents besides
    assert sum(folder.bytes for folder in top.folders.values()) == pytest.approx(top.bytes, abs=2)
    assert counts(look(any_store, manifest, path="train/")) == {"cat": 4, "dog": 4}
    assert counts(look(any_store, manifest, path="test")) == {".": 1, "cat": 2}
    assert lines(look(any_store, manifest, path="test"), 1)[0]["folder"] == "(in the folder itself)"
    assert lines(top, 1) == [
        {"folder": "test/", "rows": "3", "splits": "test 3", "bytes": lines(top, 2)[0]["bytes"]}
    ]


def test_items_have_the_sizes_of_their_files(any_store: DatasetStore) -> None:
    manifest = put(any_store)
    found = look(any_store, manifest, path="train/cat")
    assert ids(found) == [f"train/cat/{n}.png" for n in range(4)]
    assert [item.bytes for item in found.items] == [len(image(10 * n, 8 + 10 * n % 5)) for n in range(4)]
    assert {(item.split, item.label) for item in found.items} == {("train", "cat")}
    one = look(any_store, manifest, path="train/dog/3.png")
    assert (ids(one), one.rows) == (["train/dog/3.png"], 1)
    few = look(any_store, manifest, path="train/cat", limit=2)
    assert (ids(few), few.rows) == (["train/cat/0.png", "train/cat/1.png"], 4)


def test_globs_splits_and_labels_choose(store: DatasetStore) -> None:
    manifest = put(store)
    assert ids(look(store, manifest, path="**/1.png")) == [
        "train/cat/1.png",
        "train/dog/1.png",
        "test/cat/deep/1.png",
    ]
    assert ids(look(store, manifest, path="*/*/1.png", label="dog")) == ["train/dog/1.png"]
    assert counts(look(store, manifest, label="cat")) == {"test": 2, "train": 4}
    assert counts(look(store, manifest, split="test")) == {"test": 3}
    found = look(store, manifest, path="test", label="unlabelled")
    assert [(item.id, item.label) for item in found.items] == [("test/x.png", "")]


def test_what_is_not_there_is_said_in_words(store: DatasetStore) -> None:
    manifest = put(store)
    with pytest.raises(NotFound, match=r"nothing at train/bird .* there are test, train"):
        look(store, manifest, path="train/bird")
    with pytest.raises(NotFound):
        look(store, manifest, path="tra")  # no folder, though names begin so
    with pytest.raises(InvalidSettings, match=r"by the label bird.*Allowed: cat, dog, unlabelled"):
        look(store, manifest, label="bird")
    with pytest.raises(InvalidSettings, match="has no split validation"):
        look(store, manifest, split="validation")
    Path(store.folder("zoo", manifest.version), manifest.files[0].path).unlink()
    with pytest.raises(Damaged, match="shard cannot be read"):
        look(store, manifest)


def test_tables_and_numbers_as_labels(store: DatasetStore) -> None:
    frame = pd.DataFrame({"size": [1.0, 2.0, 3.0], "label": [0.5, 1.5, 2.5]})
    manifest = store.open(store_table(store, "sizes", {"train": frame}, Problem.TABLE_REGRESSION))
    found = look(store, manifest, limit=2)
    assert [(item.id, item.label) for item in found.items] == [
        ("sizes.csv#train0", "0.5"),
        ("sizes.csv#train1", "1.5"),
    ]
    assert all(item.bytes > 0 for item in found.items)
    with pytest.raises(InvalidSettings, match="Allowed: unlabelled"):
        look(store, manifest, label="0.5")


def test_objects_and_maps(store: DatasetStore, tmp_path: Path) -> None:
    manifest = store.open(ingest(boxes(tmp_path / "boxes"), store))
    everything = look(store, manifest, path="**")
    assert {"no objects", "cat 2", "dog 2"} == {item.label for item in everything.items}
    chosen = look(store, manifest, path="**", label="dog")
    assert {item.label for item in chosen.items} == {"dog 2"}
    assert chosen.rows == 3
    config = maps(tmp_path / "maps")
    (Path(config.source) / "train" / "unlabelled").mkdir()
    extra = Path(config.source) / "train" / "unlabelled" / "9.png"
    extra.write_bytes(image(9))
    config = IngestConfig(**{**config.model_dump(), "name": "maps", "unlabelled": "keep"})
    manifest = store.open(ingest(config, store))
    assert ids(look(store, manifest, path="**", label="unlabelled")) == ["train/unlabelled/9.png"]
    with pytest.raises(InvalidSettings, match="cannot be chosen by the label cat"):
        look(store, manifest, label="cat")


def test_only_what_is_shown_is_read(any_store: DatasetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = {"train": [(f"{n % 2}/{n}.png", image(n, 120, 120), 0) for n in range(40)]}
    ref = store_media(any_store, noise, Problem.IMAGE_CLASSIFICATION, CLASSES, name="large")
    manifest = any_store.open(ref)
    read = 0
    opened = any_store.fs.open

    def counting(*arguments: Any, **how: Any) -> Any:
        file = opened(*arguments, **how)
        whole = file.read

        def few(size: int = -1) -> bytes:
            nonlocal read
            content: bytes = whole(size)
            read += len(content)
            return content

        file.read = few
        return file

    monkeypatch.setattr(any_store.fs, "open", counting)
    top = look(any_store, manifest)
    assert counts(top) == {"0": 20, "1": 20}
    assert 0.95 * manifest.bytes < top.bytes < manifest.bytes
    assert 0 < read < manifest.bytes / 4
