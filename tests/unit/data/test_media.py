"""Odd files that are good, and odd files that are not, and the form in which they are kept."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.data.config import IngestConfig
from tasks.data.formats.images import MAX_PIXELS, UNREADABLE, open_image, pixels, stored_image
from tasks.data.formats.rle import decode, encode
from tasks.data.ingest import ingest
from tasks.data.layouts import layout_of
from tasks.data.layouts.media_rows import partitions
from tasks.data.read import shard_tables
from tasks.data.sources.source import opened
from tasks.data.storage.store import DatasetStore
from tasks.refs import Problem

from .conftest import encoded
from .conftest import picture as noise


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def _photo(width: int, height: int) -> Image.Image:
    """Smooth, as photographs are."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8))


def _turned(image: Image.Image, orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _file(image, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


def _stored(content: bytes, side_px: int = 800) -> Image.Image:
    image = open_image(stored_image(content, side_px).content)
    image.load()
    return image


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_every_reader_sees_alike_is_kept_as_it_is(kind: str, mode: str) -> None:
    if (kind, mode) == ("WEBP", "L"):
        pytest.skip("WebP has no grey")
    content = _file(_photo(40, 30).convert(mode), kind)
    assert stored_image(content, 40).content == content


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_become_png(kind: str) -> None:
    content = _file(noise(1), kind)
    image = _stored(content)
    assert image.format == "PNG"
    assert image.convert("L").tobytes() == noise(1).tobytes()


def test_transparency_is_laid_on_white() -> None:
    assert _stored(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)
    assert _stored(encoded(Image.new("LA", (4, 4), (0, 0)))).getpixel((0, 0)) == 255


def test_palettes_are_resolved() -> None:
    image = _stored(_file(Image.new("RGB", (4, 4), (0, 0, 255)).convert("P"), "PNG"))
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", (0, 0, 255))


def test_16_bits_are_scaled_to_8() -> None:
    ramp = np.linspace(0, 65_535, 64).round().astype(np.uint16).reshape(8, 8)
    image = _stored(_file(Image.fromarray(ramp), "PNG"))
    assert image.mode == "L"
    assert np.abs(np.asarray(image) - ramp / 257).max() <= 1


def test_cmyk_becomes_rgb() -> None:
    image = _stored(_file(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = image.getpixel((0, 0))  # type: ignore[misc]
    assert image.mode == "RGB"
    assert red > 200 > 60 > max(green, blue)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_rotation_is_done_once(orientation: int, kind: str) -> None:
    from PIL import ImageOps

    content = _turned(_photo(40, 24), orientation, kind)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"), int)
    found = stored_image(content, 800)
    assert found.size == wanted.shape[1::-1]
    assert np.abs(pixels(found.content).astype(int) - wanted).max() <= 8
    assert open_image(found.content).getexif().get(0x0112, 1) == 1


def test_labels_say_whether_an_image_is_turned() -> None:
    """Some programs turn an image before it is labelled, some do not; a box must lie on what was seen."""
    content = _turned(_photo(40, 24), 6)
    assert stored_image(content, 800, (24, 40)).size == (24, 40)
    as_it_was = stored_image(content, 800, (40, 24))
    assert as_it_was.size == (40, 24)
    assert np.abs(pixels(as_it_was.content).astype(int) - np.asarray(_photo(40, 24))).max() <= 8
    with pytest.raises(ValueError, match="it has 24 × 40 pixels, its labels are for 41 × 24"):
        stored_image(content, 800, (41, 24))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_long_sides_are_shrunk(kind: str) -> None:
    found = stored_image(_file(_photo(1_000, 500), kind), 100)
    assert (found.size, found.full_size) == ((100, 50), (1_000, 500))
    image = open_image(found.content)
    assert image.format == kind
    wanted = np.asarray(_photo(1_000, 500).resize((100, 50), Image.Resampling.LANCZOS), int)
    assert np.abs(np.asarray(image, int) - wanted).max() <= 6


def test_a_wrong_ending_is_no_fault(store: DatasetStore, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "zoo" / label).mkdir(parents=True)
        (tmp_path / "zoo" / label / "1.png").write_bytes(_file(_photo(9, 9 + len(label)), "JPEG"))
        (tmp_path / "zoo" / label / "2.jpg").write_bytes(_file(noise(len(label)), "PNG"))
    config = IngestConfig(source=str(tmp_path / "zoo"), name="zoo", problem=Problem.IMAGE_CLASSIFICATION)
    assert ingest(config, store).rows == 4


def test_a_photograph_with_a_preview_is_one_image() -> None:
    """Phones write MPO: a JPEG with a second one behind it."""
    content = _file(_photo(40, 30), "MPO", save_all=True, append_images=[_photo(8, 6)])
    assert Image.open(io.BytesIO(content)).n_frames == 2  # type: ignore[attr-defined]
    found = _stored(content)
    assert (found.format, found.size) == ("JPEG", (40, 30))


def _png_bomb(width: int, height: int) -> bytes:
    """A PNG of so many grey pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    press = zlib.compressobj(9)
    data = b"".join(press.compress(bytes(width + 1)) for _ in range(height)) + press.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _animation(kind: str) -> bytes:
    frames = [noise(seed) for seed in (1, 2)]
    return _file(frames[0], kind, save_all=True, append_images=frames[1:])


GOOD = encoded(noise(1))
JPEG = _file(_photo(64, 64), "JPEG")
PROGRESSIVE = _file(_photo(64, 64), "JPEG", progressive=True)

BAD = {
    "empty": (b"", "an empty file"),
    "text": (b"no image", "not an image of a known format"),
    "png header only": (GOOD[:40], ""),
    "png truncated": (GOOD[:-60], ""),
    "jpeg truncated": (JPEG[: len(JPEG) // 2], "Truncated File Read"),
    "jpeg without its last bytes": (JPEG[:-12], "image file is truncated"),
    "progressive jpeg truncated": (PROGRESSIVE[:-40], "image file is truncated"),
    "no pixels": (GOOD[:16] + struct.pack(">II", 0, 0) + GOOD[24:], ""),
    "100 megapixels": (_png_bomb(10_000, 10_000), "10,000 × 10,000 pixels, more than 89,478,485 in all"),
    "400 megapixels": (_png_bomb(20_000, 20_000), "Image size (400000000 pixels) exceeds limit"),
    "animated gif": (_animation("GIF"), "an animation or several pages"),
    "animated png": (_animation("PNG"), "an animation or several pages"),
    "animated webp": (_animation("WEBP"), "an animation or several pages"),
    "two pages": (_animation("TIFF"), "an animation or several pages"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image of a known format"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image of a known format"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_told_by_name(name: str, store: DatasetStore, tmp_path: Path) -> None:
    content, words = BAD[name]
    for label in ("cat", "dog"):
        (tmp_path / "zoo" / label).mkdir(parents=True)
        (tmp_path / "zoo" / label / "good.png").write_bytes(encoded(noise(len(label))))
    (tmp_path / "zoo" / "cat" / "broken.png").write_bytes(content)
    config = IngestConfig(
        source=str(tmp_path / "zoo"),
        name="zoo",
        problem=Problem.IMAGE_CLASSIFICATION,
        unreadable="leave-out",
    )
    heard: list[str] = []
    manifest = store.open(ingest(config, store, warn=heard.append))
    assert (manifest.rows, manifest.left_out) == (2, {"unreadable": 1})
    assert f"cat/broken.png ({words}" in heard[0]
    assert "0x" not in heard[0]  # an address in memory is no message, and differs each time
    assert len(heard[0]) < 300


def test_a_good_image_just_below_the_limit_of_pixels() -> None:
    side = int(MAX_PIXELS**0.5)
    assert stored_image(_png_bomb(side, side), 100).size == (100, 100)


def test_boxes_polygons_and_masks_shrink_with_their_image(store: DatasetStore, tmp_path: Path) -> None:
    mask = np.zeros((200, 400), bool)
    mask[50:150, 100:300] = True
    box = {"image_id": 1, "category_id": 1, "bbox": [100, 50, 200, 100], "area": 20_000, "iscrowd": 0}
    polygon = [100, 50, 300, 50, 300, 150, 100, 150]
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 400, "height": 200}],
        "annotations": [
            box | {"id": 1, "segmentation": [polygon]},
            box | {"id": 2, "iscrowd": 1, "segmentation": json.loads(encode(mask))},
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "a.jpg").write_bytes(_file(_photo(400, 200), "JPEG"))
    (tmp_path / "zoo" / "_annotations.coco.json").write_text(json.dumps(document))
    config = IngestConfig(
        source=str(tmp_path / "zoo"),
        name="zoo",
        problem=Problem.INSTANCE_SEGMENTATION,
        max_image_side_px=100,
    )
    manifest = store.open(ingest(config, store))
    (row,) = next(iter(shard_tables(store, manifest, "train"))).to_pylist()
    first, second = row["objects"]
    assert first["bbox"] == second["bbox"] == [25, 12.5, 50, 25]
    assert first["area"] == 1_250
    assert first["segmentation"] == [[25, 12.5, 75, 12.5, 75, 37.5, 25, 37.5]]
    small = decode(second["rle"])
    assert small.shape == (50, 100)
    assert small.sum() == pytest.approx(1_250, rel=0.05)
    assert second["iscrowd"] is True


def test_maps_shrink_without_mixing_classes(store: DatasetStore, tmp_path: Path) -> None:
    numbers = np.zeros((100, 200), np.uint8)
    numbers[:, 100:] = 2
    (tmp_path / "zoo" / "train").mkdir(parents=True)
    (tmp_path / "zoo" / "train" / "a.png").write_bytes(_file(_photo(200, 100), "PNG"))
    palette = Image.fromarray(numbers)
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])  # colours are for people, numbers are the classes
    (tmp_path / "zoo" / "train" / "m.png").write_bytes(_file(palette, "PNG"))
    (tmp_path / "zoo" / "train" / "train.json").write_text('[{"image": "a.png", "seg_map": "m.png"}]')
    (tmp_path / "zoo" / "id2label.json").write_text('["sky", "road", "tree"]')
    config = IngestConfig(
        source=str(tmp_path / "zoo"),
        name="zoo",
        problem=Problem.SEMANTIC_SEGMENTATION,
        max_image_side_px=50,
    )
    manifest = store.open(ingest(config, store))
    (row,) = next(iter(shard_tables(store, manifest, "train"))).to_pylist()
    values = pixels(row["seg_map"]["bytes"])[:, :, 0]
    assert values.shape == (25, 50) == pixels(row["image"]["bytes"]).shape[:2]
    assert (values[:, :25] == 0).all()
    assert (values[:, 25:] == 2).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_masks_agree_with_pycocotools(height: int, width: int, seed: int, share: float) -> None:
    from pycocotools import mask as theirs

    mask = np.random.default_rng(seed).random((height, width)) < share
    pressed = theirs.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert (decode({"size": pressed["size"], "counts": pressed["counts"].decode()}) == mask).all()
    ours = json.loads(encode(mask))
    assert (theirs.decode(theirs.frPyObjects(ours, *ours["size"])) == mask).all()
    assert (decode(ours) == mask).all()


def test_pieces_are_bounded(tmp_path: Path) -> None:
    """A worker holds one partition at a time: as many files in each, whether there are few or many in all."""
    for label in ("cat", "dog"):
        (tmp_path / "zoo" / label).mkdir(parents=True)
        for number in range(1_000):
            (tmp_path / "zoo" / label / f"{number}.png").write_bytes(GOOD)
    config = IngestConfig(source=str(tmp_path / "zoo"), name="zoo", problem=Problem.IMAGE_CLASSIFICATION)
    with opened(config) as source:
        found = layout_of(source, config).read(source, config).partitions
        assert [len(partition.names()) for partition in found] == [512] * 3 + [464]
        assert [name for partition in found for name in partition.names()] == sorted(source.paths)
        assert partitions(source, [], found[0].form, found[0].layout, config) == []  # type: ignore[attr-defined]


def test_files_are_read_from_the_disk_as_it_is(tmp_path: Path) -> None:
    """A lost connection or disk is no fault of a file: it must not be left out."""
    assert issubclass(ConnectionError, UNREADABLE)  # which is why partitions look at the number of the error
    for label in ("cat", "dog"):
        (tmp_path / "zoo" / label).mkdir(parents=True)
        (tmp_path / "zoo" / label / "1.png").write_bytes(encoded(noise(len(label))))
    config = IngestConfig(source=str(tmp_path / "zoo"), name="zoo", problem=Problem.IMAGE_CLASSIFICATION)
    with opened(config) as source:
        (partition,) = layout_of(source, config).read(source, config).partitions
    (tmp_path / "zoo" / "cat" / "1.png").unlink()
    (rows,) = partition.read()
    assert rows.faults == ["cat/1.png (no such file or directory)"]
    (tmp_path / "zoo" / "cat").rmdir()
    (tmp_path / "zoo" / "cat").symlink_to("cat")  # a disk that is at fault: ELOOP
    with pytest.raises(OSError, match="symbolic links"):
        list(partition.read())
