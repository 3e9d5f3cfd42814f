"""What an image file must be to come into the store, and the form in which it is kept."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from tasks.data.formats.images import ORIENTATION, is_plain, open_image, plain, png, shrunk

MAX_PIXELS = 89_478_485
"""Larger images are refused: decoded they take a quarter of a gigabyte (Pillow warns at the same limit)."""

_TURNS_BY_A_QUARTER = range(5, 9)


@dataclass(frozen=True)
class Picture:
    """An image as the store keeps it.

    Attributes:
        content: The file.
        size: (width, height) in pixels.
        full_size: The same before it was shrunk.
    """

    content: bytes
    size: tuple[int, int]
    full_size: tuple[int, int]


def picture(content: bytes, max_side_px: int, labelled_size: tuple[int, int] | None = None) -> Picture:
    """An image file as the store keeps it: as it is, where no pixel needs to change.

    Else upright, 8-bit grey or RGB, with a long side of at most `max_side_px`; JPEG stays JPEG, because
    photographs as PNG are many times larger, and everything else becomes PNG.

    Args:
        content: The file.
        max_side_px: Longest side.
        labelled_size: (width, height) of the image that the labels lie on. Programs differ in whether they
            turn an image upright by its EXIF tag before it is labelled; the size tells it.

    Raises:
        UNREADABLE: The file cannot be decoded to its end, is animated or too large, or is not of the size
            that its labels are for.
    """
    if not content:
        raise ValueError("an empty file")
    image = open_image(content)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width:,} × {height:,} pixels, more than {MAX_PIXELS:,} in all")
    jpeg = image.format in ("JPEG", "MPO")  # MPO: a photograph with a preview behind it
    if getattr(image, "is_animated", False) and not jpeg:
        raise ValueError("an animation or several pages, not one image")
    turn = image.getexif().get(ORIENTATION, 1)
    upright = (height, width) if turn in _TURNS_BY_A_QUARTER else (width, height)
    if labelled_size not in (None, upright):
        if labelled_size != (width, height):
            raise ValueError(
                f"it has {upright[0]} × {upright[1]} pixels, its labels are for "
                f"{labelled_size[0]} × {labelled_size[1]}"  # type: ignore[index]
            )
        image.info.pop("exif", None)
        upright = (width, height)
    fits = max(upright) <= max_side_px
    if fits and is_plain(image, content):
        if jpeg:
            # Reads to the end, and so finds all damage, but makes an eighth of the rows and columns.
            image.draft(image.mode, (1, 1))
        image.load()
        return Picture(content, upright, upright)
    if not fits and jpeg:
        scale = 3 * max_side_px / max(upright)  # three times what is needed: nothing is seen of it
        image.draft(None, (round(width * scale), round(height * scale)))
    image = plain(image)
    if not jpeg and labelled_size not in (None, image.size):
        raise ValueError("it is turned by a tag, and its labels are for the image as it was")
    image = _shrunk_to(image, upright, max_side_px)
    if not jpeg:
        return Picture(png(image), image.size, upright)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=95, subsampling=0)
    return Picture(sink.getvalue(), image.size, upright)


def _shrunk_to(image: Image.Image, full_size: tuple[int, int], max_side_px: int) -> Image.Image:
    """Shrunk as the whole image would be, though a draft of it is a little smaller or larger."""
    whole = max(full_size)
    if whole <= max_side_px:
        return image
    if image.size == full_size:
        return shrunk(image, max_side_px)
    width, height = (max(1, round(side * max_side_px / whole)) for side in full_size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
