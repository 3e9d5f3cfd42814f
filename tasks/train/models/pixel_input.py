"""From pictures to the numbers that a network of own code takes: resize, crop, scale, normalise.

The steps and their order are those of transformers' image processors, whose preprocessor_config.json is
read here, so that no such processor is needed where a model is served.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from tasks.errors import InvalidData, InvalidRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

_KNOWN = {
    "crop_pct", "crop_size", "data_format", "device", "disable_grouping", "do_center_crop", "do_convert_rgb",
    "do_normalize", "do_rescale", "do_resize", "feature_extractor_type", "image_mean",
    "image_processor_type", "image_std", "input_data_format", "offset", "processor_class", "resample",
    "rescale_factor", "return_tensors", "size", "default_to_square", "image_seq_length",
}  # fmt: skip
_WAYS_OF_THEIR_OWN = ("Levit", "Perceiver", "PoolFormer")
"""Processors of transformers that resize or crop in other ways under the same names."""
_FILE = "preprocessor_config.json"


class PixelInput(BaseModel):
    """How pictures are made into one array.

    Args:
        height, width: Size that pictures are brought to, in pixels; 0 leaves them.
        shortest_edge: Length of the shorter side after resizing, the shape kept; 0 does not.
        resample: Pillow's number of the filter.
        crop_height, crop_width: Middle part that is cut out; 0 cuts nothing.
        channels: 1 grey, 3 RGB, 0 as they come.
        scale: What pixel values are multiplied by.
        mean, std: Of each channel, after scaling.
        layout: Order of the axes of a picture; `flat` is one row of numbers.
        dtype: Of the array.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = 0
    width: int = 0
    shortest_edge: int = 0
    resample: int = 2
    crop_height: int = 0
    crop_width: int = 0
    channels: Literal[0, 1, 3] = 0
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Literal["nchw", "nhwc", "flat"] = "nchw"
    dtype: Literal["float32", "float64", "float16", "uint8", "int64"] = "float32"

    def stack(self, images: Sequence[Image.Image]) -> NDArray[Any]:
        """Pictures as one array, `[n, c, h, w]`, `[n, h, w, c]` or `[n, h·w·c]`.

        Raises:
            InvalidRequest: They differ in size, and nothing here brings them to one.
        """
        ready = [self._pixels(image) for image in images]
        if len({picture.shape for picture in ready}) > 1:
            sizes = sorted({f"{p.shape[1]} x {p.shape[0]} with {p.shape[2]} channels" for p in ready})
            raise InvalidRequest(
                "the images differ in size or mode after preprocessing",
                where=", ".join(sizes[:5]),
                allowed="one size and mode",
                mend="preprocess the dataset with a resize step, or save the model with a fixed input size",
            )
        values = np.stack(ready).astype(np.float32) * np.float32(self.scale)
        if self.mean:
            values -= np.asarray(self.mean, dtype=np.float32)
        if self.std:
            values /= np.asarray(self.std, dtype=np.float32)
        if self.layout == "nchw":
            values = values.transpose(0, 3, 1, 2)
        if self.layout == "flat":
            values = values.reshape(len(values), -1)
        return np.ascontiguousarray(values.astype(self.dtype, copy=False))

    def _pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """uint8 `[h, w, c]`."""
        if self.channels:
            image = image.convert("L" if self.channels == 1 else "RGB")
        if self.shortest_edge:
            short, long = sorted(image.size)
            length = int(self.shortest_edge * long / short)
            size = (
                (self.shortest_edge, length) if image.width <= image.height else (length, self.shortest_edge)
            )
            image = image.resize(size, self.resample)
        elif self.height and image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), self.resample)
        if self.crop_height:
            left = math.floor((image.width - self.crop_width) / 2)
            top = math.floor((image.height - self.crop_height) / 2)
            image = image.crop((left, top, left + self.crop_width, top + self.crop_height))
        pixels = np.asarray(image, dtype=np.uint8)
        return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def from_processor(config: dict[str, Any], channels: Literal[0, 1, 3]) -> PixelInput:
    """The steps of a preprocessor_config.json.

    Raises:
        InvalidData: It asks for a step or a size that is not known here.
    """
    strange = sorted(set(config) - _KNOWN - {name for name in config if config[name] in (None, False)})
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    if kind.startswith(_WAYS_OF_THEIR_OWN):
        strange = [kind]
    if strange or (config.get("offset") and config.get("do_rescale", True)):
        raise InvalidData(
            f"the steps {', '.join(strange) or 'offset'} of the image processor are not known",
            where=_FILE,
            allowed="resize, centre crop, rescale and normalise",
            mend="save the model with such a processor, or as ONNX",
        )
    steps: dict[str, Any] = {"channels": 3 if config.get("do_convert_rgb") else channels}
    if config.get("do_resize", True) and config.get("size"):
        resample = config.get("resample")
        steps["resample"] = 2 if resample is None else int(resample)  # 0 is a filter: the nearest
        steps |= _resizing(config)
    if config.get("do_center_crop"):
        crop = _sides("crop_size", config["crop_size"], square=True)
        steps |= {"crop_height": crop["height"], "crop_width": crop["width"]}
    if config.get("do_rescale", True):
        steps["scale"] = config.get("rescale_factor") or 1 / 255
    if config.get("do_normalize"):
        steps |= {"mean": _each(config.get("image_mean")), "std": _each(config.get("image_std"))}
    return PixelInput.model_validate(steps)


def _resizing(config: dict[str, Any]) -> dict[str, int]:
    """The settings of `PixelInput` for the size."""
    share = config.get("crop_pct")
    size = _sides("size", config["size"], square=config.get("default_to_square", not share))
    if not share:
        return size
    edge = size.get("shortest_edge", 0)  # ConvNeXT's own way
    if not edge:
        raise _unknown_size("size", config["size"])
    if edge < 384:
        return {"shortest_edge": int(edge / share), "crop_height": edge, "crop_width": edge}
    return {"height": edge, "width": edge}


def _sides(name: str, given: Any, *, square: bool) -> dict[str, int]:
    """A size as `height` and `width`, or as `shortest_edge`.

    Args:
        name: Of the setting.
        given: Both sides, the shorter one, or a number, as older files have it.
        square: Whether a number is both sides, and not the shorter one.
    """
    if isinstance(given, int):
        given = {"height": given, "width": given} if square else {"shortest_edge": given}
    sides = {side: value for side, value in given.items() if value} if isinstance(given, dict) else {}
    if set(sides) != {"height", "width"} and (set(sides) != {"shortest_edge"} or name == "crop_size"):
        raise _unknown_size(name, given)
    return sides


def _unknown_size(name: str, given: Any) -> InvalidData:
    return InvalidData(
        f"the {name} of the image processor, {given}, is not one that is known",
        where=_FILE,
        allowed="height and width" + ("" if name == "crop_size" else ", or shortest_edge alone"),
        mend="save the model with such a processor, or as ONNX",
    )


def _each(value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (float(value),)
