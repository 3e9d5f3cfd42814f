"""Images over the wire: the files in a request into decoded images.

Sizes are read from the header before any pixel is unpacked; the formats are those that ingest takes.
"""

from __future__ import annotations

import binascii
import warnings
from dataclasses import replace
from typing import Any

from PIL import Image, UnidentifiedImageError

from tasks.data.formats.images import FORMATS, open_image, plain
from tasks.serve.wire import Limits, Refusal, kind_of


def read_images(instances: list[Any], limits: Limits) -> list[Image.Image]:
    """The decoded images of a JSON request.

    Raises:
        Refusal: 400 where an instance is not an object with base64 under `data`, 413 or 422 where the
            file in it is too large or not a readable image.
    """
    images: list[Image.Image] = []
    left = limits.max_request_pixels
    for index, instance in enumerate(instances):
        where = f"instances[{index}]"
        shape = '{"data": "<base64 of the image file>"}'
        if not isinstance(instance, dict):
            raise Refusal(
                400,
                f"instance {index} is {kind_of(instance)}",
                where=where,
                allowed=shape,
                mend="send each image as an object with the key 'data'",
            )
        if "data" not in instance:
            raise Refusal(
                400,
                f"the key 'data' is missing in instance {index}",
                where=where,
                allowed=shape,
                mend="put the base64 of the image file under 'data'",
            )
        if len(instance) > 1:
            others = ", ".join(repr(key)[:40] for key in instance if key != "data")
            raise Refusal(
                400,
                f"instance {index} has keys beside 'data': {others[:200]}",
                where=where,
                allowed=shape,
                mend="leave the other keys out",
            )
        text = instance["data"]
        if not isinstance(text, str):
            raise Refusal(
                400,
                f"'data' of instance {index} is {kind_of(text)}",
                where=f"{where}.data",
                allowed="the base64 of an image file, as a string",
                mend="encode the bytes of the file with base64",
            )
        allowed = replace(limits, max_image_pixels=min(limits.max_image_pixels, left))
        images.append(decode_image(_from_base64(text, index), f"{where}.data", allowed))
        left -= images[-1].width * images[-1].height
    return images


def _from_base64(text: str, index: int) -> bytes:
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(
            400,
            f"'data' of instance {index} is not base64: {str(error).lower()}",
            where=f"instances[{index}].data",
            allowed="the base64 of an image file, without a 'data:' prefix",
            mend="encode the bytes of the file with base64, for example base64.b64encode in Python",
        ) from None


def decode_image(data: bytes, where: str, limits: Limits) -> Image.Image:
    """One decoded image; its size is read from the header before any pixel is unpacked.

    Args:
        data: The bytes of the image file.
        where: The place in the request, for the error.
        limits: Of them, `max_image_pixels` counts here.

    Raises:
        Refusal: 413 where the image has too many pixels, 422 where the bytes are no readable image.
    """
    if not data:
        raise Refusal(
            422,
            "the image file is empty",
            where=where,
            allowed=f"an image file: {', '.join(FORMATS)}",
            mend="check that the file was read before it was sent",
        )
    try:
        with warnings.catch_warnings():
            # Pillow warns of a bomb at a limit of its own; here the header's size decides.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = open_image(data)
            if opened.width * opened.height > limits.max_image_pixels:
                raise _too_many_pixels(opened.width, opened.height, where, limits)
            # Decoded and turned upright here, in the reading thread, so that the model's thread need not.
            return plain(opened)
    except Refusal:
        raise
    except Image.DecompressionBombError:
        raise Refusal(
            413,
            "the image unpacks to too many pixels",
            where=where,
            allowed=f"at most {limits.max_image_pixels:,} pixels",
            mend="shrink the image before sending it, or send fewer in one request",
        ) from None
    except UnidentifiedImageError:
        raise Refusal(
            422,
            "the file is not an image of a known kind",
            where=where,
            allowed=f"an image file: {', '.join(FORMATS)}",
            mend="send the bytes of the image file as they are on disk",
        ) from None
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise Refusal(
            422,
            f"the image cannot be decoded: {str(error)[:120] or type(error).__name__}",
            where=where,
            allowed="a whole, undamaged image file",
            mend="open the file in a viewer; it may have been cut short",
        ) from None


def _too_many_pixels(width: int, height: int, where: str, limits: Limits) -> Refusal:
    return Refusal(
        413,
        f"the image has {width} x {height} pixels",
        where=where,
        allowed=f"at most {limits.max_image_pixels:,} pixels",
        mend="shrink the image before sending it, or send fewer in one request",
    )
