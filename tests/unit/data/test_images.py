"""Image files as the store writes and reads them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from PIL import Image
from sklearn.datasets import load_sample_images

from tasks.data.formats.images import UNREADABLE, pixels, plain_png_header, png

PHOTOGRAPH = Image.fromarray(load_sample_images().images[0])


@settings(deadline=None, max_examples=60)
@given(
    nps.arrays(np.uint8, st.tuples(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 3])))
    | nps.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])))
)
def test_what_is_written_is_read_by_us_and_by_pillow(array: np.ndarray) -> None:
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    content = png(image)
    assert png(image) == content
    assert np.array_equal(pixels(content), array)
    with Image.open(io.BytesIO(content)) as read:
        assert (read.format, read.mode, read.size) == ("PNG", image.mode, image.size)
        assert np.array_equal(np.asarray(read).reshape(array.shape), array)
    header = plain_png_header(content)
    assert header is not None
    assert (header.width_px, header.height_px, header.mode) == (*image.size, image.mode)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("options", [{}, {"compress_level": 0}, {"compress_level": 9}, {"optimize": True}])
def test_png_files_of_others_are_read_as_pillow_reads_them(mode: str, options: dict[str, object]) -> None:
    image = PHOTOGRAPH.convert(mode)
    sink = io.BytesIO()
    image.save(sink, "PNG", **options)
    assert np.array_equal(pixels(sink.getvalue()), np.asarray(image).reshape(427, 640, -1))


def test_other_formats_are_read_as_pillow_reads_them() -> None:
    sink = io.BytesIO()
    PHOTOGRAPH.save(sink, "JPEG")
    with Image.open(io.BytesIO(sink.getvalue())) as read:
        assert np.array_equal(pixels(sink.getvalue()), np.asarray(read))


def test_damage_is_found() -> None:
    content = png(PHOTOGRAPH.resize((40, 30)))
    for place in range(41, len(content) - 20, 97):
        damaged = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
        with pytest.raises(UNREADABLE):  # zlib's own checksum
            pixels(damaged)
    with pytest.raises(UNREADABLE):
        pixels(content[: len(content) // 2])
