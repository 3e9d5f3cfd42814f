"""Bad input is refused in words, and leaves nothing in the store."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from tasks.data.config import IngestConfig
from tasks.data.ingest import ingest
from tasks.data.storage.store import DatasetStore
from tasks.errors import TrainyardError
from tasks.refs import Problem

from .conftest import encoded, picture

Refuse = Callable[..., str]


@pytest.fixture
def refuse(store: DatasetStore, tmp_path: Path) -> Refuse:
    """Ingests a folder and returns the words in which that was refused."""

    def run(problem: Problem = Problem.TABLE_CLASSIFICATION, source: str = "", **more: Any) -> str:
        config = IngestConfig(source=source or str(tmp_path / "source"), name="bad", problem=problem, **more)
        with pytest.raises(TrainyardError) as caught:
            ingest(config, store)
        assert store.fs.find(store.root) == []
        return str(caught.value)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    def put(**files: str | bytes) -> None:
        for name, content in files.items():
            path = (
                tmp_path / "source" / name.replace("__", "/").replace("_csv", ".csv").replace("_png", ".png")
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    return put


def test_nothing_there(refuse: Refuse, tmp_path: Path) -> None:
    assert "There is no" in refuse()
    (tmp_path / "source").mkdir()
    assert "There is no file in" in refuse()


@pytest.mark.parametrize(
    "source",
    ["http://169.254.169.254/x.csv", "zip://x.csv::/etc/a.zip", "filecache::s3://a/b", "ftp://host/a"],
)
def test_addresses_that_are_not_read(refuse: Refuse, source: str) -> None:
    assert "is not an address that ingest reads" in refuse(source=source)


def test_unknown_sample(refuse: Refuse) -> None:
    assert "Allowed: digits, iris, fashion-mnist" in refuse(source="sample:cifar")


def test_tables_where_images_are_expected_and_the_other_way_round(
    refuse: Refuse, write: Callable[..., None]
) -> None:
    write(notes__readme_txt="hello")
    assert "in no layout known for image-classification" in refuse(Problem.IMAGE_CLASSIFICATION)
    assert "in no layout known for table-regression" in refuse(Problem.TABLE_REGRESSION)


IMAGES = Problem.IMAGE_CLASSIFICATION
GOOD = encoded(picture(1))


def test_images_without_labels(refuse: Refuse, write: Callable[..., None]) -> None:
    write(a_png=GOOD, b_png=GOOD)
    words = refuse(IMAGES)
    assert "a folder of images, texts or sounds a label" in words
    assert "a CSV of file name and label" in words


def test_images_beside_label_folders(refuse: Refuse, write: Callable[..., None]) -> None:
    write(cat__a_png=GOOD, dog__b_png=GOOD, stray_png=GOOD)
    assert "1 images stand in no label folder: stray.png" in refuse(IMAGES)


def test_splits_beside_labels(refuse: Refuse, write: Callable[..., None]) -> None:
    write(train__cat__a_png=GOOD, train__dog__b_png=GOOD, bird__c_png=GOOD)
    assert "Folders for splits (train) stand beside others: bird" in refuse(IMAGES)


def test_one_class(refuse: Refuse, write: Callable[..., None]) -> None:
    write(train__cat__a_png=GOOD)
    assert "one label only, cat" in refuse(IMAGES)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("a.png,0\nmissing.png,1\n", "labels.csv names 1 images that are not there: missing.png"),
        ("a.png,0\n../../etc/passwd,1\n", "row 2 names '../../etc/passwd', which leads out of the folder"),
        ("a.png,0\n/etc/passwd,1\n", "which leads out of the folder"),
        ("a.png,0\nb.png,1\na.png,1\n", "row 3 names a.png for the second time"),
        ("a.png,0\nC:\\b.png,1\n", "which leads out of the folder"),
        ("a.png,0\nhttp://169.254.169.254/b.png,1\n", "which leads out of the folder"),
        ("a.png,0\n", "1 images have no line in labels.csv: b.png"),
        ("a.png,0\n,1\nb.png,1\n", "row 2 has no file name"),
        ('a.png,0\n"b.png,1\n', "is not a CSV file in UTF-8"),
        ("id,file,path,label\n1,a.png,a.png,0\n", "not clear which of the 4 columns"),
        ("file,label\n", "labels.csv has no rows"),
        ("a.png,\nb.png,\n", "No row has a label"),
        ("a.png,0\nb.png,7\n", "1 labels have no name: 7"),
        ("a.png,0\nb.png,-1\n", "1 labels have no name: -1"),
        ("a.png,0\nb.png,\xff\n".encode("latin-1"), "is not a CSV file in UTF-8"),
    ],
)
def test_labels_in_a_csv(refuse: Refuse, write: Callable[..., None], labels: str | bytes, words: str) -> None:
    write(a_png=GOOD, b_png=GOOD, labels_csv=labels)
    assert words in refuse(IMAGES, label_names=("cat", "dog"))


def test_a_labels_file_that_is_not_there(refuse: Refuse, write: Callable[..., None]) -> None:
    write(a_png=GOOD, b_png=GOOD)
    assert "There is no file labels.csv of labels" in refuse(IMAGES, labels_file="labels.csv")


def test_label_names_that_are_none(refuse: Refuse, write: Callable[..., None], tmp_path: Path) -> None:
    write(cat__a_png=GOOD, dog__b_png=GOOD)
    (tmp_path / "source" / "label_names.json").write_text('{"1": "cat"}')
    assert "label_names.json does not hold names of labels" in refuse(IMAGES)


def test_links_out_of_the_folder(refuse: Refuse, write: Callable[..., None], tmp_path: Path) -> None:
    write(cat__a_png=GOOD, dog__b_png=GOOD)
    (tmp_path / "secret.png").write_bytes(GOOD)
    os.symlink(tmp_path / "secret.png", tmp_path / "source" / "cat" / "link.png")
    assert "cat/link.png is a link that leads out of the folder" in refuse(IMAGES)


def test_kinds_of_files_that_are_not_read(refuse: Refuse, write: Callable[..., None]) -> None:
    write(**{"cat/a.png": GOOD, "dog/b.png": GOOD, "cat/c.HEIC": b"x", "dog/d.svg": b"<svg/>"})
    words = refuse(IMAGES)
    assert "2 files cannot be read: cat/c.HEIC (not an image of a known format), dog/d.svg (not an" in words


def test_unlabelled_images(
    refuse: Refuse, store: DatasetStore, write: Callable[..., None], tmp_path: Path
) -> None:
    """Refused by name unless they are unlabelled on purpose, or that is wished."""
    write(a_png=GOOD, b_png=encoded(picture(2)), c_png=encoded(picture(3)), labels_csv="a.png,0\nb.png,1\n")
    assert "1 images have no line in labels.csv: c.png" in refuse(IMAGES)
    config = IngestConfig(source=str(tmp_path / "source"), name="some", problem=IMAGES, unlabelled="keep")
    manifest = store.open(ingest(config, store))
    assert (manifest.rows, manifest.unlabelled, manifest.classes) == (3, 1, ("0", "1"))
    write(labels_csv="a.png,0\nb.png,1\nc.png,\n")
    on_purpose = config.model_copy(update={"unlabelled": "refuse"})
    assert store.open(ingest(on_purpose, store)).unlabelled == 1


@pytest.mark.parametrize(
    "folder", ["unlabelled/c.png", "train/unlabeled/c.png", "train/Unlabelled/deep/c.png"]
)
def test_a_folder_of_unlabelled_files(
    store: DatasetStore, write: Callable[..., None], tmp_path: Path, folder: str
) -> None:
    write(train__cat__a_png=GOOD, train__dog__b_png=encoded(picture(2)), **{folder: encoded(picture(3))})
    config = IngestConfig(source=str(tmp_path / "source"), name="some", problem=IMAGES)
    manifest = store.open(ingest(config, store))
    assert (manifest.rows, manifest.unlabelled, manifest.classes) == (3, 1, ("cat", "dog"))


def test_files_without_any_label_can_come_in_to_be_annotated(
    refuse: Refuse, store: DatasetStore, write: Callable[..., None], tmp_path: Path
) -> None:
    write(unlabelled__a_png=GOOD, unlabelled__b_png=encoded(picture(2)))
    assert "No row has a label" in refuse(IMAGES)
    config = IngestConfig(
        source=str(tmp_path / "source"),
        name="some",
        problem=IMAGES,
        unlabelled="keep",
        label_names=("cat", "dog"),
    )
    manifest = store.open(ingest(config, store))
    assert (manifest.rows, manifest.unlabelled, manifest.classes) == (2, 2, ("cat", "dog"))


BOX = {"id": 5, "image_id": 1, "category_id": 3, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0}
DETECTION = Problem.OBJECT_DETECTION


def coco(**changes: Any) -> str:
    """A good COCO file of a.png, 8 × 8 pixels, with some of its lists replaced."""
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}],
        "annotations": [BOX],
        "categories": [{"id": 3, "name": "cat"}],
    }
    return json.dumps({**document, **changes})


def _image(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "file_name": "a.png", "width": 8, "height": 8} | changes


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("[]", "is not a COCO file: it is no object"),
        ("{", "is not a COCO file"),
        ("[" * 100_000, "is not a COCO file"),
        ('{"images": []}', "it has no list annotations"),
        (coco(images=[_image(), _image(id=2, file_name="b.png")]), "image 2 (b.png) is not there"),
        (coco(images=[_image(file_name="../a.png")]), "image 1 (../a.png) leads out of the folder"),
        (coco(images=[_image(file_name="/etc/passwd")]), "leads out of the folder"),
        (coco(images=[_image(file_name="http://127.0.0.1/a.png")]), "leads out of the folder"),
        (coco(images=[_image(), _image(id=2)]), "image 2 (a.png): this file is listed twice"),
        (coco(images=[_image(), _image(file_name="x.png")]), "image 1 (x.png): this id is there twice"),
        (coco(images=[_image(width=None)]), "needs a width and a height"),
        (coco(images=[{"id": 1}]), "image number 1 needs an id and a file_name"),
        (coco(images=[_image(height=9)]), "it has 8 × 8 pixels, its labels are for 8 × 9"),
        (coco(annotations=[BOX | {"category_id": 4}]), "annotation 5 is of the category 4, which is not"),
        (coco(annotations=[BOX | {"image_id": 9}]), "annotation 5 is of the image 9, which is not listed"),
        (coco(annotations=[BOX, BOX]), "annotation 5 is there twice"),
        (coco(annotations=["x"]), "annotation number 1 has no id"),
        (coco(annotations=[BOX | {"bbox": [0, 0, 4]}]), "needs a bbox of four numbers"),
        (coco(annotations=[BOX | {"bbox": [0, 0, 4, float("nan")]}]), "needs a bbox of four numbers"),
        (coco(annotations=[BOX | {"bbox": [0, 0, 0, 4]}]), "the box 0, 0, 0, 4 has no area"),
        (coco(annotations=[BOX | {"bbox": [5, 5, 9, 2]}]), "lies outside the image of 8 × 8"),
        (coco(annotations=[BOX | {"bbox": [8, 8, 1, 1]}]), "has no area inside the image"),
        (coco(annotations=[BOX | {"area": -1}]), "the area -1 is no number above 0"),
        (coco(categories=[]), "there is no category"),
        (coco(categories=[{"id": 3, "name": "cat"}] * 2), "the category id 3 is there twice"),
        (coco(categories=[{"id": 3, "name": "cat"}, {"id": 4, "name": "cat"}]), "two category ids"),
        (coco(annotations=[]), "No image has an object"),
    ],
)
def test_coco_files(refuse: Refuse, write: Callable[..., None], document: str, words: str) -> None:
    write(**{"train/a.png": GOOD, "train/_annotations.coco.json": document})
    assert words in refuse(DETECTION)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ([], "neither polygons nor a mask"),
        ([[0, 0, 4, 4]], "a polygon needs three points"),
        ([[0, 0, 4, 4, 4, 20]], "a polygon lies outside the image"),
        ({"size": [8, 8], "counts": [3, 4]}, "do not add up to 8 × 8 pixels"),
        ({"size": [4, 4], "counts": [0, 16]}, "its mask is of 4 × 4, not 8 × 8"),
        ({"size": [8, 8], "counts": "\u00ff"}, "a mask needs a size and counts"),
        ({"size": [8, 8]}, "a mask needs a size and counts"),
    ],
)
def test_masks(refuse: Refuse, write: Callable[..., None], mask: Any, words: str) -> None:
    document = coco(annotations=[BOX | {"segmentation": mask}])
    write(**{"train/a.png": GOOD, "train/_annotations.coco.json": document})
    assert words in refuse(Problem.INSTANCE_SEGMENTATION)


def test_images_that_no_coco_file_lists(refuse: Refuse, write: Callable[..., None]) -> None:
    write(**{"train/a.png": GOOD, "train/b.png": GOOD, "train/_annotations.coco.json": coco()})
    assert "1 images are in no annotation file: train/b.png" in refuse(DETECTION)


MAP = encoded(Image.fromarray(np.eye(8, dtype=np.uint8)))
PAIR = {"image": "i.png", "seg_map": "m.png"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"train/train.json": "{}"}, "is not a list of images and maps: it is no list"),
        ({"train/train.json": json.dumps([PAIR, PAIR])}, "entry 2 (train/i.png) is listed twice"),
        ({"train/train.json": json.dumps([PAIR | {"seg_map": "x.png"}])}, "entry 1 (x.png) is not there"),
        ({"train/train.json": json.dumps([PAIR | {"image": "../i.png"}])}, "(../i.png) leads out"),
        ({"train/train.json": json.dumps([{}])}, "entry 1 names no image"),
        ({"train/x.png": GOOD}, "1 images are in no list: train/x.png"),
        ({"train/m.png": encoded(Image.new("L", (8, 7)))}, "has 8 × 8 pixels, its labels are for 8 × 7"),
        ({"train/m.png": encoded(Image.new("L", (8, 8), 7))}, "class numbers without a name: 7"),
        ({"train/m.png": encoded(picture(1, mode="RGB"))}, "its pixels are colours (RGB), not class numbers"),
        ({"train/m.png": encoded(picture(1), "JPEG")}, "a JPEG file, which blurs class numbers"),
        ({"train/m.png": MAP[:-32]}, "its map train/m.png:"),
        ({"train/m.png": b""}, "its map train/m.png: an empty file"),
        ({"id2label.json": "{}"}, "does not hold names of classes"),
        ({"id2label.json": '{"0": "a", "00": "b"}'}, "a number or a name is there twice"),
        ({"id2label.json": '{"0": "a"}'}, "there are 1 classes, not 2 to 256"),
    ],
)
def test_segmentation_maps(
    refuse: Refuse, write: Callable[..., None], files: dict[str, Any], words: str
) -> None:
    good = {
        "train/i.png": GOOD,
        "train/m.png": MAP,
        "train/train.json": json.dumps([PAIR]),
        "id2label.json": '["road", "tree"]',
    }
    write(**(good | files))
    assert words in refuse(Problem.SEMANTIC_SEGMENTATION)


def test_segmentation_without_names(refuse: Refuse, write: Callable[..., None]) -> None:
    write(**{"train/i.png": GOOD, "train/m.png": MAP, "train/train.json": json.dumps([PAIR])})
    assert "There is no file of the names of classes" in refuse(Problem.SEMANTIC_SEGMENTATION)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("naïve".encode("latin-1"), "c.txt (not in UTF-8: byte 3)"),
        ("a text".encode("utf-16"), "c.txt (in UTF-16; save it as UTF-8)"),
        (b"a\0b", "c.txt (not a text: it holds NUL characters)"),
        (b"x" * (16 * 2**20 + 1), "c.txt (16,777,217 bytes, more than 16,777,216)"),
    ],
)
def test_texts(refuse: Refuse, write: Callable[..., None], content: bytes, words: str) -> None:
    write(**{"cat/a.txt": "a", "dog/b.txt": "b", "cat/c.txt": content})
    assert words in refuse(Problem.TEXT_CLASSIFICATION)


def _sound(kind: str) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, np.sin(np.arange(24_000) / 9) / 2, 8_000, format=kind)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"no sound", "not a WAV, FLAC, Ogg or MP3 file"),
        (_sound("AIFF"), "not a WAV, FLAC, Ogg or MP3 file"),
        (_sound("WAV")[:-100], "cut short"),
        (_sound("WAV")[:30], "damaged"),
        (_sound("FLAC")[:-100], "damaged"),
        (_sound("OGG")[:-100], "cut short"),
        (_sound("MP3")[:-400], "cut short"),
    ],
    ids=["empty", "text", "aiff", "wav cut", "wav header", "flac cut", "ogg cut", "mp3 cut"],
)
def test_sounds(refuse: Refuse, write: Callable[..., None], content: bytes, words: str) -> None:
    write(**{"cat/a.wav": _sound("WAV"), "dog/b.mp3": _sound("MP3"), "cat/c.wav": content})
    assert f"1 files cannot be read: cat/c.wav ({words}" in refuse(Problem.AUDIO_CLASSIFICATION)
