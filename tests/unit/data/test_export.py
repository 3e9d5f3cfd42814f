"""Versions written out as zips: complete, in bounded memory, readable by others and by ingest."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.data.config import IngestConfig, PreprocessConfig
from tasks.data.export import export, template
from tasks.data.formats.images import pixels
from tasks.data.formats.rle import decode
from tasks.data.ingest import ingest
from tasks.data.manifest import LABEL_COLUMN, Manifest
from tasks.data.preparation.preprocess import preprocess
from tasks.data.read import shard_tables
from tasks.data.shards import media_table, schema
from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged, InvalidSettings
from tasks.refs import Problem

from .conftest import encoded, picture

IMAGES = Problem.IMAGE_CLASSIFICATION


def _exported(store: DatasetStore, manifest: Manifest, **options: Any) -> zipfile.ZipFile:
    sink = io.BytesIO()
    export(store, manifest, sink, **options)
    archive = zipfile.ZipFile(sink)
    assert archive.testzip() is None
    assert len(set(archive.namelist())) == len(archive.namelist())
    return archive


def _version(store: DatasetStore, source: Path, problem: Problem = IMAGES, **more: Any) -> Manifest:
    return store.open(ingest(IngestConfig(source=str(source), name="zoo", problem=problem, **more), store))


def _contents(store: DatasetStore, manifest: Manifest, split: str) -> list[tuple[str, bytes, str]]:
    """Id, pixels and class of every row of a split."""
    return [
        (row["id"], pixels(row["image"]["bytes"]).tobytes(), manifest.classes[row["label"]])
        for table in shard_tables(store, manifest, split)
        for row in table.to_pylist()
    ]


def test_a_prepared_version_comes_out_pixel_for_pixel(
    store: DatasetStore, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Divided anew and resized, and still in folders of labels."""
    raw = _version(store, image_folder(splits=("train",), each=20, side_px=40))
    manifest = store.open(preprocess(store.ref(raw), PreprocessConfig(input_size_px=16), store))
    archive = _exported(store, manifest)
    for split in ("train", "validation", "test"):
        expected = sorted((content, label) for _, content, label in _contents(store, manifest, split))
        names = [name for name in archive.namelist() if name.startswith(f"{split}/")]
        found = sorted((pixels(archive.read(name)).tobytes(), name.split("/")[1]) for name in names)
        assert found == expected
    (tmp_path / "again.zip").write_bytes(archive.fp.getvalue())  # type: ignore[union-attr]
    again = _version(DatasetStore(str(tmp_path / "other")), tmp_path / "again.zip")
    assert (again.splits, again.classes) == (manifest.splits, manifest.classes)


def test_labels_that_people_gave_come_out(store: DatasetStore, image_folder: Callable[..., Path]) -> None:
    """A version with a parent whose rows have got labels, of classes that no folder can be named after."""
    folder = image_folder(splits=("train",), each=1)
    (folder / "train" / "unlabelled").mkdir()
    (folder / "train" / "unlabelled" / "=x.png").write_bytes(encoded(picture(50)))
    raw = _version(store, folder)
    assert raw.unlabelled == 1
    assert "train/unlabelled/=x.png" in _exported(store, raw).namelist()
    classes = ("cat", "dog", "=1+1", "either/or", "Cat")
    layout = schema(IMAGES, raw.features, LABEL_COLUMN, classes)
    (table,) = shard_tables(store, raw, "train")
    rows = table.to_pylist()
    with store.writer("zoo") as writer:
        files = [row["image"]["bytes"] for row in rows]
        labelled = media_table(layout, [row["id"] for row in rows], files, [4, 2, 3])
        ref = writer.commit(
            [writer.target.write("train", 0, 1, labelled)],
            **raw.model_dump(include={"problem", "label", "source", "preprocessing"}),
            features=raw.features,
            classes=classes,
            parent=raw.version,
            method="annotate",
            parameters={},
        )
    archive = _exported(store, store.open(ref))
    lines = list(csv.reader(io.StringIO(archive.read("labels.csv").decode())))
    assert lines == [
        ["file", "label"],
        ["train/cat/0.png", "Cat"],
        ["train/dog/0.png", "'=1+1"],  # no spreadsheet runs it
        ["train/unlabelled/=x.png", "either/or"],
    ]


def test_names_that_differ_in_case_only_are_told_apart(store: DatasetStore, tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/A.png", "cat/a.png", "dog/e\u0301.png", "dog/\u00e9.png"):
        path = tmp_path / "zoo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(len(name.encode()) + ord(name[-5]) % 7)))
    manifest = _version(store, tmp_path / "zoo")
    archive = _exported(store, manifest)
    names = [name for name in archive.namelist() if name.endswith(".png")]
    assert len(names) == manifest.rows
    assert "cat/a-2.png" in names
    (tmp_path / "again.zip").write_bytes(archive.fp.getvalue())  # type: ignore[union-attr]
    assert _version(store, tmp_path / "again.zip").rows == manifest.rows


def test_endings_say_what_is_in_a_file(store: DatasetStore, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "zoo" / label).mkdir(parents=True)
        Image.new("RGB", (5, len(label))).save(tmp_path / "zoo" / label / "1.bmp")
        Image.new("RGB", (6, len(label))).save(tmp_path / "zoo" / label / "2.jpeg")
    names = _exported(store, _version(store, tmp_path / "zoo")).namelist()
    assert "cat/1.bmp.png" in names
    assert "cat/2.jpeg" in names


def test_pycocotools_reads_what_was_exported(store: DatasetStore, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    mask = np.zeros((8, 8), bool)
    mask[2:5, 3:7] = True
    with zipfile.ZipFile(io.BytesIO(template("coco", Problem.INSTANCE_SEGMENTATION))) as archive:
        archive.extractall(tmp_path / "zoo")
    path = tmp_path / "zoo" / "train" / "_annotations.coco.json"
    document = json.loads(path.read_text())
    for entry in document["categories"]:
        entry["id"] += 40
    for entry in document["annotations"]:
        entry["category_id"] += 40
    crowd = {"id": 99, "image_id": 1, "category_id": 41, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 1}
    document["annotations"].append(
        crowd | {"segmentation": {"size": [32, 32], "counts": [0, 4, 28, 4, 28, 4, 28, 4, 924]}}
    )
    path.write_text(json.dumps(document))
    for split in ("validation", "test"):
        for file in (tmp_path / "zoo" / split).iterdir():
            file.unlink()
    manifest = _version(store, tmp_path / "zoo", Problem.INSTANCE_SEGMENTATION)
    _exported(store, manifest).extractall(tmp_path / "out")
    with contextlib.redirect_stdout(io.StringIO()):
        ours, theirs = (
            COCO(str(root / "train" / path.name)) for root in (tmp_path / "out", tmp_path / "zoo")
        )
    assert ours.loadCats(ours.getCatIds()) == [
        {"id": 41, "name": "bright", "supercategory": ""},
        {"id": 42, "name": "dark", "supercategory": ""},
    ]
    assert len(ours.getAnnIds()) == len(theirs.getAnnIds()) == 9
    by_name = {entry["file_name"]: entry["id"] for entry in theirs.loadImgs(theirs.getImgIds())}
    for image in ours.loadImgs(ours.getImgIds()):
        assert Image.open(tmp_path / "out" / "train" / image["file_name"]).size == (
            image["width"],
            image["height"],
        )
        mine = ours.loadAnns(ours.getAnnIds(image["id"]))
        given = theirs.loadAnns(theirs.getAnnIds(by_name[image["file_name"]]))
        assert [one["bbox"] for one in mine] == [one["bbox"] for one in given]
        assert [one["category_id"] for one in mine] == [one["category_id"] for one in given]
        for one, other in zip(mine, given, strict=True):
            assert (ours.annToMask(one) == theirs.annToMask(other)).all()
            if one["iscrowd"]:
                assert (decode(one["segmentation"]) == ours.annToMask(one)).all()


def test_hugging_face_reads_the_exported_folders(
    store: DatasetStore, image_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    manifest = _version(store, image_folder())
    _exported(store, manifest).extractall(tmp_path / "out")
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache")
    )
    assert {split: part.num_rows for split, part in loaded.items()} == manifest.splits
    assert loaded["train"].features["label"].names == ["cat", "dog"]


def test_a_part_of_a_version(store: DatasetStore, image_folder: Callable[..., Path]) -> None:
    manifest = _version(store, image_folder())
    names = _exported(store, manifest, splits=["test"], include=["**/cat/*"]).namelist()
    assert [name for name in names if name.endswith(".png")] == [f"test/cat/{n}.png" for n in range(4)]
    names = _exported(store, manifest, include=["train/cat/0.png", "test/dog"]).namelist()
    assert len([name for name in names if name.endswith(".png")]) == 5
    with pytest.raises(InvalidSettings, match=r"No row of zoo@.* matches train/bird"):
        export(store, manifest, io.BytesIO(), include=["train/bird"])
    with pytest.raises(InvalidSettings, match="has no split holdout"):
        export(store, manifest, io.BytesIO(), splits=["holdout"])
    with pytest.raises(InvalidSettings, match="There is no layout coco for table-regression"):
        template("coco", Problem.TABLE_REGRESSION)


class _Pipe(io.RawIOBase):
    """Takes bytes, as a socket does: nobody can seek in it."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        self.content += block
        return len(block)


def test_the_zip_is_written_while_shards_are_read(
    store: DatasetStore, image_folder: Callable[..., Path]
) -> None:
    manifest = _version(store, image_folder(each=3, side_px=64))
    pipe = _Pipe()
    sizes: list[tuple[int, int, int]] = []
    export(store, manifest, pipe, progress=lambda done, all_: sizes.append((done, all_, len(pipe.content))))  # type: ignore[arg-type]
    assert [(done, all_) for done, all_, _ in sizes] == [(1, 3), (2, 3), (3, 3)]
    assert 0 < sizes[0][2] < sizes[1][2] < sizes[2][2]
    again = _Pipe()
    export(store, manifest, again)  # type: ignore[arg-type]
    assert again.content == pipe.content
    assert len(zipfile.ZipFile(io.BytesIO(pipe.content)).namelist()) == manifest.rows + 2


def test_a_store_on_s3_and_a_damaged_shard(
    any_store: DatasetStore, image_folder: Callable[..., Path]
) -> None:
    manifest = _version(any_store, image_folder())
    assert len(_exported(any_store, manifest).namelist()) == manifest.rows + 2
    folder = any_store.folder(manifest.name, manifest.version)
    any_store.fs.rm_file(f"{folder}/{manifest.files[-1].path}")
    with pytest.raises(Damaged, match="A shard cannot be read"):
        export(any_store, manifest, io.BytesIO())
    any_store.fs.pipe_file(f"{folder}/{manifest.files[0].path}", os.urandom(100))
    with pytest.raises(Damaged, match="A shard cannot be read"):
        export(any_store, manifest, io.BytesIO())
