"""Image files: what comes into the store, in which form it is kept, decoding and encoding.

What comes out is 8-bit L (grey) or RGB, upright.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SUFFIXES_OF = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm"),
}
FORMATS = tuple(SUFFIXES_OF)
"""Formats that are decoded: no interpreters (EPS) and nothing exotic."""

IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes)
"""Endings of image files, in lower case; what is in a file is told by its content."""

ORIENTATION = 0x0112
"""The EXIF tag that says how a camera was held."""

PNG_MODES = {0: "L", 2: "RGB"}
PNG_COLOURS = {mode: colour for colour, mode in PNG_MODES.items()}
"""PNG colour types without palette and alpha, as Pillow names them."""

MAX_PIXELS = 89_478_485
"""Larger images are refused: decoded they take a quarter of a gigabyte (Pillow warns at the same limit)."""

_TURNS_BY_A_QUARTER = range(5, 9)

UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises on damaged files, found by feeding it such files."""


@dataclass(frozen=True)
class Header:
    """What an image is, known without decoding it."""

    width_px: int
    height_px: int
    mode: str


def plain_png_header(content: bytes) -> Header | None:
    """The header of a PNG file whose pixels are exactly what a model is given; None for all others.

    That is 8 bits a channel, grey or RGB, no transparency, no rotation tag, complete: decoding such a file,
    and encoding the pixels again, changes none of them.
    """
    if len(content) < 33 or content[:8] != PNG_SIGNATURE or content[12:16] != b"IHDR":
        return None
    if content[-8:-4] != b"IEND":
        return None  # cut short, or something is appended: readers differ in what they make of it
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    if depth != 8 or colour not in PNG_MODES or b"tRNS" in content or b"eXIf" in content:
        return None
    return Header(width, height, PNG_MODES[colour])


def open_image(content: bytes) -> Image.Image:
    """Open without decoding, by the content and never by a name.

    Raises:
        OSError, SyntaxError, ValueError: These bytes are not an image of a known format.
    """
    return Image.open(io.BytesIO(content), formats=FORMATS)


def is_plain(image: Image.Image, content: bytes) -> bool:
    """Whether `plain` would change nothing: 8-bit grey or RGB, upright; found without decoding.

    Args:
        image: As `open_image` gives it.
        content: The file that it was opened from.
    """
    if image.format in ("JPEG", "WEBP"):
        return image.mode in ("L", "RGB") and image.getexif().get(ORIENTATION, 1) == 1
    return plain_png_header(content) is not None


def plain(image: Image.Image) -> Image.Image:
    """Decode to 8-bit L or RGB, turned upright by its EXIF tag, transparency laid on white.

    Raises:
        OSError, ValueError, SyntaxError: The file is damaged.
    """
    image.load()
    if "exif" in image.info:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("L", "RGB"):
        if "transparency" not in image.info:
            return image
        image = image.convert("RGBA" if image.mode == "RGB" else "LA")
    if image.mode.startswith("I;16") or image.mode == "I":
        # 16 bits a pixel: Pillow's own conversion would clip at 255 instead of scaling.
        return image.convert("I").point(lambda value: value / 257).convert("L")
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P":
        image = image.convert("RGBA")
    if image.mode in ("LA", "La"):
        return _on_white(image.convert("LA"), "L")
    if image.mode in ("RGBA", "RGBa", "PA"):
        return _on_white(image.convert("RGBA"), "RGB")
    return image.convert("RGB")


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    ground = Image.new(mode, image.size, "white")
    ground.paste(image.convert(mode), mask=image.getchannel("A"))
    return ground


def shrunk(image: Image.Image, max_side_px: int) -> Image.Image:
    """The image with a long side of at most `max_side_px`, its proportions kept."""
    if max(image.size) <= max_side_px:
        return image
    scale = max_side_px / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def png(image: Image.Image) -> bytes:
    """An L or RGB image as a PNG file: lossless, without metadata, the same bytes for the same pixels.

    The file is made without compression and without row filters (PNG specification, W3C 2003, sections
    9 and 10): the shard that holds it is compressed as a whole, and training reads the pixels back
    thirty times as fast.
    """
    width, height = image.size
    channels = len(image.getbands())
    rows = np.empty((height, 1 + width * channels), np.uint8)
    rows[:, 0] = 0  # filter type of the row: none
    rows[:, 1:] = np.asarray(image, np.uint8).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, PNG_COLOURS[image.mode], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 0)), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        for kind, data in chunks
    )


def pixels(content: bytes | memoryview) -> np.ndarray:
    """Decode an image file to uint8 [height, width, channels]; a file that `png` made at the speed of a copy.

    Raises:
        UNREADABLE: The file is damaged, or no image.
    """
    if len(content) > 57 and content[:8] == PNG_SIGNATURE and content[37:41] == b"IDAT":
        width, height, depth, colour, *ways = struct.unpack(">IIBBBBB", content[16:29])
        (size,) = struct.unpack(">I", content[33:37])
        # Grey or RGB, not interlaced, and nothing but the header, one data chunk and the end.
        if depth == 8 and colour in PNG_MODES and not any(ways) and len(content) == 33 + 12 + size + 12:
            line = 1 + width * len(PNG_MODES[colour])
            rows = np.frombuffer(
                zlib.decompress(memoryview(content)[41 : 41 + size], bufsize=height * line), np.uint8
            )
            if len(rows) == height * line and not rows[::line].any():  # no row is filtered
                return rows.reshape(height, line)[:, 1:].reshape(height, width, -1)
    array = np.asarray(plain(open_image(bytes(content))))
    return array[:, :, None] if array.ndim == 2 else array


@dataclass(frozen=True)
class StoredImage:
    """An image as the store keeps it.

    Attributes:
        content: The file.
        size: (width, height) in pixels.
        full_size: The same before it was shrunk.
    """

    content: bytes
    size: tuple[int, int]
    full_size: tuple[int, int]


def stored_image(
    content: bytes, max_side_px: int, labelled_size: tuple[int, int] | None = None
) -> StoredImage:
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
        return StoredImage(content, upright, upright)
    if not fits and jpeg:
        scale = 3 * max_side_px / max(upright)  # three times what is needed: nothing is seen of it
        image.draft(None, (round(width * scale), round(height * scale)))
    image = plain(image)
    if not jpeg and labelled_size not in (None, image.size):
        raise ValueError("it is turned by a tag, and its labels are for the image as it was")
    image = _shrunk_to(image, upright, max_side_px)
    if not jpeg:
        return StoredImage(png(image), image.size, upright)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=95, subsampling=0)
    return StoredImage(sink.getvalue(), image.size, upright)


def _shrunk_to(image: Image.Image, full_size: tuple[int, int], max_side_px: int) -> Image.Image:
    """Shrunk as the whole image would be, though a draft of it is a little smaller or larger."""
    whole = max(full_size)
    if whole <= max_side_px:
        return image
    if image.size == full_size:
        return shrunk(image, max_side_px)
    width, height = (max(1, round(side * max_side_px / whole)) for side in full_size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
