"""ONNX graphs with one input: which of their outputs is read, and as what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tasks.train.models.onnx_graph import NUMPY_OF, ROWS_AT_ONCE, OnnxModel, open_session
from tasks.train.models.own_scores import Kind, Scores
from tasks.train.models.pixel_input import PixelInput
from tasks.train.own_code.saved_model import NotServed, Saved, first_line
from tasks.train.own_code.trial import (
    Adopted,
    Trial,
    all_columns,
    inputs_of,
    known_channels,
    pixels_of,
    scores_of,
    size_steps,
    told_by_values,
    tried,
)


def adopt(saved: Saved, trial: Trial) -> Adopted:
    """See `tasks.train.own_code.adopting.adopt`."""
    content, size, named = _content_of(saved.path)
    try:
        session = open_session(content)
    except Exception as error:  # ONNX Runtime has a family of its own
        raise NotServed(f"ONNX Runtime cannot open it: {first_line(error)}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        raise NotServed(f"it has {len(inputs)} inputs; one is allowed")
    taken = inputs[0]
    if taken.type not in NUMPY_OF:
        raise NotServed(f"its input is of type {taken.type}; allowed: {', '.join(NUMPY_OF)}")
    shape = [side if isinstance(side, int) and side > 0 else 0 for side in taken.shape]
    pixels = _pixels_of_graph(saved.path.parent, trial, shape, NUMPY_OF[taken.type])
    output, kind = _output_of(outputs, trial)
    at_once = ROWS_AT_ONCE if shape[0] == 0 else shape[0]
    if at_once not in (1, ROWS_AT_ONCE):
        raise NotServed(f"it takes {at_once} rows at a time, no more and no fewer; export it with any number")
    model = OnnxModel(content, output, Scores(kind="values"), pixels, at_once, size)
    columns: tuple[str, ...] = ()
    if trial.images is None:
        columns = all_columns(trial, shape[1])
    raw = tried(lambda: model.raw(inputs_of(model, trial, columns)))
    if kind == "?":
        kind = told_by_values(raw) if trial.classes else "values"
    model.scores = scores_of(raw, kind, saved.classes or named, trial)
    return Adopted(model, columns)


def _content_of(path: Path) -> tuple[bytes, int, tuple[str, ...]]:
    """The file with the data beside it taken in, its learned numbers, and the class names in it."""
    import onnx

    try:
        graph = onnx.load(str(path))  # refuses data outside of its folder
        content = graph.SerializeToString()
    except Exception as error:  # protobuf and onnx each have their own families
        raise NotServed(f"it is no ONNX file: {first_line(error)}") from error
    size = sum(int(np.prod(list(one.dims))) for one in graph.graph.initializer)
    about = {entry.key: entry.value for entry in graph.metadata_props}
    try:
        named = json.loads(about.get("classes", "[]"))
    except ValueError:
        named = []
    return content, size, tuple(map(str, named)) if isinstance(named, list) else ()


def _pixels_of_graph(folder: Path, trial: Trial, shape: list[int], dtype: str) -> PixelInput | None:
    if trial.images is None:
        if len(shape) != 2:
            raise NotServed(f"its input has {len(shape)} axes; a table gives two: rows and columns")
        return None
    update: dict[str, Any] = {"layout": "flat"}
    pixels = pixels_of(folder, trial, 0)
    if len(shape) == 4:
        last = shape[3] in (1, 3) and shape[1] not in (1, 3)
        channels = shape[3] if last else shape[1]
        if channels not in (0, 1, 3):
            raise NotServed(f"its input has the shape {shape}; images have 1 or 3 channels")
        height, width = (shape[1], shape[2]) if last else (shape[2], shape[3])
        pixels = pixels_of(folder, trial, known_channels(channels))
        update = {"layout": "nhwc" if last else "nchw"}
        if not pixels.crop_height and not pixels.height:
            update |= size_steps(height, width)
    elif len(shape) != 2:
        raise NotServed(f"its input has {len(shape)} axes; images give four, or two where they are flat")
    if dtype in ("uint8", "int64"):
        update |= {"scale": 1.0, "mean": (), "std": ()}
    return PixelInput.model_validate(pixels.model_dump() | update | {"dtype": dtype})


def _output_of(outputs: Sequence[Any], trial: Trial) -> tuple[str, Kind | Literal["?"]]:
    """The output to read: probabilities by name, else logits, else the first of floats, else labels."""
    floats = [one for one in outputs if one.type in ("tensor(float)", "tensor(double)", "tensor(float16)")]
    if not floats:
        if any(one.type.startswith("seq(map") for one in outputs):
            raise NotServed(
                "its probabilities are a list of maps; convert it with the option zipmap=False of skl2onnx"
            )
        labels = [one for one in outputs if one.type in ("tensor(int64)", "tensor(int32)")]
        if labels and trial.classes:
            return str(labels[0].name), "labels"
        raise NotServed(f"it has no output of numbers ({', '.join(one.type for one in outputs)})")
    for words, kind in ((("prob", "softmax", "scores"), "probabilities"), (("logit",), "logits")):
        for one in floats:
            if any(word in one.name.lower() for word in words) and trial.classes:
                return str(one.name), "?" if kind == "probabilities" else "logits"
    return str(floats[0].name), "?"
