"""Bad input is refused in words, and leaves nothing in the store."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.data.config import IngestConfig
from tasks.data.ingest import ingest
from tasks.data.read import read_raw_rows
from tasks.data.store import DatasetStore
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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be read as CSV"),
        ("a,b\n", "has no rows"),
        ("a,a\n1,x\n2,y\n", "columns of one name: a"),
        ("a,,b\n1,2,x\n", "a column without a name"),
        ("a,b\n1,x\n2,y,z\n", "cannot be read as CSV"),
        ("a,b\n1,x,2\n2,y,3\n", "more cells than the header"),
        ('a,b\n1,"x\n2,y\n', "cannot be read as CSV"),
        ("a,b\n1,x\0\n", "NUL"),
        ("a,b\n1,x\n".encode("utf-16"), "cannot be read as CSV"),
        ("a,b\n1,\n2,\n", "No row has a label"),
        ("a,b\n1,x\n2,x\n", "one label only, x"),
        ("b\nx\ny\n", "no column to learn from"),
        ("a,b\ninf,x\n1,y\n", "not a finite number"),
        ("a,b\n1e400,x\n1,y\n", "not a finite number"),
        ("id,a,b\n1,1,x\n1,2,y\n", "The column id has 1 values more than once: 1"),
        ("id,a,b\n1,1,x\n,2,y\n", "The column id has missing values"),
    ],
)
def test_csv_files(refuse: Refuse, write: Callable[..., None], content: str | bytes, words: str) -> None:
    write(data_csv=content)
    assert words in refuse()


def test_columns_that_are_not_there(refuse: Refuse, write: Callable[..., None]) -> None:
    write(data_csv="a,b\n1,x\n2,y\n")
    assert "There is no column colour" in refuse(label="colour")
    assert "Allowed: a, b" in refuse(column_types={"c": "numeric"})


def test_words_in_a_numeric_column(refuse: Refuse, write: Callable[..., None]) -> None:
    write(data_csv="a,b\n1,x\nmany,y\n")
    assert "The column a holds 'many', which is not a finite number. Where: row 2 of 2" in refuse(
        column_types={"a": "numeric"}
    )
    assert "holds 'x'" in refuse(Problem.TABLE_REGRESSION)


def test_files_with_other_columns(refuse: Refuse, write: Callable[..., None]) -> None:
    write(train_csv="a,b\n1,x\n2,y\n", test_csv="a,c\n1,x\n2,y\n")
    assert "The columns of train.csv are not those of test.csv. Where: b, c" in refuse()


def test_parquet_files(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "data.parquet"
    file.write_bytes(b"PAR1 but not really")
    assert "is not a Parquet file" in refuse()
    pq.write_table(pa.table({"a": [[1], [2]], "b": ["x", "y"]}), file)
    assert "hold lists or structures: a" in refuse()


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
    assert "a folder of images a label" in words
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


def _animation() -> bytes:
    sink = io.BytesIO()
    frames = [picture(seed) for seed in (1, 2)]
    frames[0].save(sink, "GIF", save_all=True, append_images=frames[1:])
    return sink.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", GOOD[:40], GOOD[:-60], b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", _animation()],
    ids=["empty", "text", "header only", "truncated", "eps", "svg", "animated"],
)
def test_images_that_cannot_be_read(refuse: Refuse, write: Callable[..., None], content: bytes) -> None:
    write(cat__a_png=GOOD, cat__broken_png=content, dog__b_png=GOOD)
    words = refuse(IMAGES)
    assert "1 files cannot be read: cat/broken.png (" in words
    assert "repair or remove these files" in words


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("a.png,0\nmissing.png,1\n", "labels.csv names 1 images that are not there: missing.png"),
        ("a.png,0\n../../etc/passwd,1\n", "Row 2 of labels.csv names '../../etc/passwd', which leads out"),
        ("a.png,0\n/etc/passwd,1\n", "which leads out of the folder"),
        ("a.png,0\nb.png,1\na.png,1\n", "Row 3 of labels.csv names a.png for the second time"),
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


def test_odd_but_good_images_are_stored_plain(store: DatasetStore, tmp_path: Path) -> None:
    """Transparency on white, palettes and 16 bits resolved, EXIF rotation done, long sides shrunk."""
    folder = tmp_path / "source" / "odd"
    folder.mkdir(parents=True)
    (tmp_path / "source" / "even").mkdir()
    Image.new("L", (5, 5)).save(tmp_path / "source" / "even" / "x.png")
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(folder / "clear.png")
    Image.new("RGB", (4, 4), (0, 0, 255)).convert("P").save(folder / "palette.png")
    Image.new("I;16", (4, 4), 65535).save(folder / "deep.png")
    Image.new("CMYK", (4, 4), (0, 0, 0, 255)).save(folder / "print.jpg")
    picture(1, 100, 40).save(folder / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    picture(2, 30, 20, "RGB").save(folder / "turned.jpg", exif=exif)
    config = IngestConfig(source=str(tmp_path / "source"), name="odd", problem=IMAGES, max_image_side_px=50)
    rows = read_raw_rows(store, ingest(config, store), "train")
    assert rows.images is not None
    images = {Path(name).stem: image for name, image in zip(rows.ids, rows.images, strict=True)}
    assert {image.mode for image in images.values()} == {"L", "RGB"}
    assert images["clear"].getpixel((0, 0)) == (255, 255, 255)
    assert images["palette"].getpixel((0, 0)) == (0, 0, 255)
    assert images["deep"].getpixel((0, 0)) == 255
    assert images["wide"].size == (50, 20)
    assert images["turned"].size == (20, 30)


def test_unlabelled_images_are_kept_without_a_label(
    store: DatasetStore, write: Callable[..., None], tmp_path: Path
) -> None:
    write(a_png=GOOD, b_png=encoded(picture(2)), c_png=encoded(picture(3)), labels_csv="a.png,0\nb.png,1\n")
    config = IngestConfig(source=str(tmp_path / "source"), name="some", problem=IMAGES)
    manifest = store.open(ingest(config, store))
    assert manifest.rows == 3
    assert manifest.classes == ("0", "1")


def test_a_glob_and_an_s3_prefix_are_sources(
    store: DatasetStore, s3: dict[str, object], tmp_path: Path
) -> None:
    import s3fs

    from tasks.data.sources import digest, scan

    for folder in ("cat", "dog", "skipped"):
        (tmp_path / "zoo" / folder).mkdir(parents=True)
        (tmp_path / "zoo" / folder / "1.png").write_bytes(encoded(picture(len(folder))))
    config = IngestConfig(source=str(tmp_path / "zoo" / "[cd]*" / "*.png"), name="zoo", problem=IMAGES)
    manifest = store.open(ingest(config, store))
    assert (manifest.rows, manifest.classes) == (2, ("cat", "dog"))

    server = s3fs.S3FileSystem(**s3)
    server.mkdir("zoo-source")
    server.put(str(tmp_path / "zoo"), "zoo-source/zoo", recursive=True)
    remote = scan("s3://zoo-source/zoo", s3)
    assert [file.path for file in remote.files] == ["cat/1.png", "dog/1.png", "skipped/1.png"]
    before = digest(remote)
    ref = ingest(config.model_copy(update={"source": "s3://zoo-source/zoo"}), store, source=remote)
    assert store.open(ref).classes == ("cat", "dog", "skipped")
    server.pipe_file("zoo-source/zoo/cat/1.png", encoded(picture(99)))
    assert digest(scan("s3://zoo-source/zoo", s3)) != before
