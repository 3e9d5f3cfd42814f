"""From the model that the code saved to one that predicts like a built-in: opened, understood, tried."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tasks.errors import InvalidData, TrainyardError
from tasks.refs import Problem
from tasks.train.models.own_scores import Kind, Scores
from tasks.train.models.pixel_input import PixelInput, from_processor
from tasks.train.own_code.config import ImageInput
from tasks.train.own_code.saved_model import NotServed, Saved

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from PIL import Image

    from tasks.train.algorithms.algorithm import FittedModel

MOST_BYTES = 2 * 2**30
PROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class Trial:
    """Rows that a model is tried on, as the dataset version has them.

    Attributes:
        problem: What is to be predicted.
        classes: The dataset's class names, in the order of the labels; empty for regression.
        orders: Orders in which a script may have numbered the classes, the likeliest first: each a tuple
            of the dataset's classes by the script's number.
        images: Preprocessed pictures; None for tables.
        table: Preprocessed rows; None for images.
        labels: int64 `[n]` in the dataset's numbers, or float64 `[n]`.
        image_input: How pixels become numbers where the model does not say it.
    """

    problem: Problem
    classes: tuple[str, ...]
    orders: tuple[tuple[int, ...], ...]
    images: list[Image.Image] | None
    table: pd.DataFrame | None
    labels: NDArray[Any]
    image_input: ImageInput


@dataclass(frozen=True)
class Adopted:
    """A model that was understood.

    Attributes:
        model: It.
        inputs: The columns that it takes, in order; none for images.
    """

    model: FittedModel
    inputs: tuple[str, ...]


def adopt(saved: Saved, trial: Trial) -> Adopted:
    """Open a saved model, and find out how its outputs are to be read.

    Raises:
        NotServed: It cannot be served for this problem, or does not fit the dataset; says why.
    """
    if trial.problem not in (
        Problem.IMAGE_CLASSIFICATION,
        Problem.TABLE_CLASSIFICATION,
        Problem.TABLE_REGRESSION,
    ):
        raise NotServed(f"models for {trial.problem.value} are not served yet")
    path = saved.path
    size = sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())
    if size > MOST_BYTES:
        raise NotServed(f"it has {size / 2**30:.1f} GiB, more than the 2 GiB that one file may have")
    ways: dict[str, Callable[[Saved, Trial], Adopted]] = {
        "transformers": _transformers,
        "onnx": _onnx,
        "lightgbm": _lightgbm,
        "skops": _skops,
    }
    try:
        return ways[saved.form](saved, trial)
    except TrainyardError as error:
        raise NotServed(f"{error.what}{f' ({error.where})' if error.where else ''}") from error


def _transformers(saved: Saved, trial: Trial) -> Adopted:
    if trial.problem is not Problem.IMAGE_CLASSIFICATION:
        raise NotServed("models of transformers are served for image classification only")
    from tasks.train.models.transformers_weights import TransformersModel, built

    config = json.loads((saved.path / "config.json").read_text())
    names = config.get("architectures") or [""]
    try:
        network = built(config, names[0])
        network, info = type(network).from_pretrained(
            str(saved.path),
            config=network.config,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers, torch and safetensors each have their own families
        raise NotServed(f"transformers cannot open it: {str(error).splitlines()[0][:300]}") from error
    if info["missing_keys"]:
        raise NotServed(f"weights are missing: {', '.join(sorted(info['missing_keys'])[:5])}")
    labels = [str(network.config.id2label[i]) for i in sorted(network.config.id2label)]
    own = saved.classes or (() if labels == [f"LABEL_{i}" for i in range(len(labels))] else tuple(labels))
    channels = _channels(getattr(network.config, "num_channels", 0))
    pixels = _pixels(saved.path, trial, channels)
    if not pixels.height and not pixels.shortest_edge and not pixels.crop_height:
        side = getattr(network.config, "image_size", None)
        pixels = pixels.model_copy(update=_size(side, side)) if isinstance(side, int) else pixels
    model = TransformersModel(network, Scores(kind="logits"), pixels)
    inputs = model.stack_images(trial.images or [])
    raw = _tried(lambda: network(pixel_values=_tensor(inputs)).logits.detach().numpy())
    model.scores = _scores(raw, "logits", own, trial)
    return Adopted(model, ())


def _tensor(values: NDArray[Any]) -> Any:
    import torch

    return torch.from_numpy(values)


def _onnx(saved: Saved, trial: Trial) -> Adopted:
    from tasks.train.models.onnx_graph import NUMPY_OF, ROWS_AT_ONCE, OnnxModel, open_session

    content, size, named = _onnx_content(saved.path)
    try:
        session = open_session(content)
    except Exception as error:  # ONNX Runtime has a family of its own
        raise NotServed(f"ONNX Runtime cannot open it: {str(error).splitlines()[0][:300]}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        raise NotServed(f"it has {len(inputs)} inputs; one is allowed")
    taken = inputs[0]
    if taken.type not in NUMPY_OF:
        raise NotServed(f"its input is of type {taken.type}; allowed: {', '.join(NUMPY_OF)}")
    shape = [side if isinstance(side, int) and side > 0 else 0 for side in taken.shape]
    pixels = _onnx_pixels(saved.path.parent, trial, shape, NUMPY_OF[taken.type])
    output, kind = _onnx_output(outputs, trial)
    at_once = ROWS_AT_ONCE if shape[0] == 0 else shape[0]
    if at_once not in (1, ROWS_AT_ONCE):
        raise NotServed(f"it takes {at_once} rows at a time, no more and no fewer; export it with any number")
    model = OnnxModel(content, output, Scores(kind="values"), pixels, at_once, size)
    columns: tuple[str, ...] = ()
    if trial.images is None:
        columns = _all_columns(trial, shape[1])
    raw = _tried(lambda: model.raw(_inputs(model, trial, columns)))
    if kind == "?":
        kind = _told_by_values(raw) if trial.classes else "values"
    model.scores = _scores(raw, kind, saved.classes or named, trial)
    return Adopted(model, columns)


def _onnx_content(path: Path) -> tuple[bytes, int, tuple[str, ...]]:
    """The file with the data beside it taken in, its learned numbers, and the class names in it."""
    import onnx

    try:
        graph = onnx.load(str(path))  # refuses data outside of its folder
        content = graph.SerializeToString()
    except Exception as error:  # protobuf and onnx each have their own families
        raise NotServed(f"it is no ONNX file: {str(error).splitlines()[0][:300]}") from error
    size = sum(int(np.prod(list(one.dims))) for one in graph.graph.initializer)
    about = {entry.key: entry.value for entry in graph.metadata_props}
    try:
        named = json.loads(about.get("classes", "[]"))
    except ValueError:
        named = []
    return content, size, tuple(map(str, named)) if isinstance(named, list) else ()


def _onnx_pixels(folder: Path, trial: Trial, shape: list[int], dtype: str) -> PixelInput | None:
    if trial.images is None:
        if len(shape) != 2:
            raise NotServed(f"its input has {len(shape)} axes; a table gives two: rows and columns")
        return None
    update: dict[str, Any] = {"layout": "flat"}
    pixels = _pixels(folder, trial, 0)
    if len(shape) == 4:
        last = shape[3] in (1, 3) and shape[1] not in (1, 3)
        channels = shape[3] if last else shape[1]
        if channels not in (0, 1, 3):
            raise NotServed(f"its input has the shape {shape}; images have 1 or 3 channels")
        height, width = (shape[1], shape[2]) if last else (shape[2], shape[3])
        pixels = _pixels(folder, trial, _channels(channels))
        update = {"layout": "nhwc" if last else "nchw"}
        if not pixels.crop_height and not pixels.height:
            update |= _size(height, width)
    elif len(shape) != 2:
        raise NotServed(f"its input has {len(shape)} axes; images give four, or two where they are flat")
    if dtype in ("uint8", "int64"):
        update |= {"scale": 1.0, "mean": (), "std": ()}
    return PixelInput.model_validate(pixels.model_dump() | update | {"dtype": dtype})


def _onnx_output(outputs: Sequence[Any], trial: Trial) -> tuple[str, Kind | Literal["?"]]:
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


def _told_by_values(raw: NDArray[Any]) -> Kind:
    """Probabilities lie between 0 and 1, those of a row add up to 1; other numbers are logits."""
    rows = np.asarray(raw, dtype=np.float64).reshape(len(raw), -1)
    within = bool((rows >= -1e-6).all() and (rows <= 1 + 1e-6).all())
    if rows.shape[1] == 1:
        return "positive" if within else "positive logit"
    return "probabilities" if within and np.allclose(rows.sum(axis=1), 1, atol=1e-3) else "logits"


def _lightgbm(saved: Saved, trial: Trial) -> Adopted:
    import lightgbm

    from tasks.train.models.own_lightgbm import OwnLightgbmModel

    if trial.table is None:
        raise NotServed("LightGBM models are served for tables only")
    try:
        booster = lightgbm.Booster(model_file=str(saved.path))
    except lightgbm.basic.LightGBMError as error:
        raise NotServed(f"LightGBM cannot open it: {error}") from error
    model = OwnLightgbmModel(booster, Scores(kind="values"))
    names = {str(name).replace(" ", "_"): str(name) for name in trial.table.columns}
    wanted = booster.feature_name()
    if all(name in names for name in wanted):
        columns = tuple(names[name] for name in wanted)
    else:
        columns = _all_columns(trial, len(wanted))
    raw = _tried(lambda: model.raw(_inputs(model, trial, columns)))
    kind: Kind = "values"
    if trial.classes:
        kind = _told_by_values(raw)
        if kind not in ("probabilities", "positive"):
            raise NotServed("its objective gives no probabilities; train with binary or multiclass")
    model.scores = _scores(raw, kind, saved.classes, trial)
    return Adopted(model, columns)


def _skops(saved: Saved, trial: Trial) -> Adopted:
    from tasks.train.models.own_scikit_learn import OwnScikitLearnModel, read_estimator

    estimator = read_estimator(saved.path)
    kind: Kind = "values"
    if trial.classes:
        if hasattr(estimator, "predict_proba"):
            kind = "probabilities"
        elif hasattr(estimator, "decision_function"):
            kind = "positive logit" if len(getattr(estimator, "classes_", ())) == 2 else "logits"
        else:
            raise NotServed(f"{type(estimator).__name__} gives no probabilities")
    elif not hasattr(estimator, "predict"):
        raise NotServed(f"{type(estimator).__name__} does not predict")
    named = tuple(map(str, getattr(estimator, "feature_names_in_", ())))
    pixels: PixelInput | None = None
    columns: tuple[str, ...] = ()
    if trial.table is None:
        pixels = PixelInput.model_validate(
            _pixels(saved.path.parent, trial, 0).model_dump() | {"layout": "flat"}
        )
        named = ()
    elif named:
        lacking = [name for name in named if name not in trial.table.columns]
        if lacking:
            raise NotServed(f"it was fitted on columns that the data does not have: {', '.join(lacking[:5])}")
        columns = named
    else:
        columns = _all_columns(trial, int(getattr(estimator, "n_features_in_", 0)))
    model = OwnScikitLearnModel(estimator, Scores(kind=kind), named, pixels)
    raw = _tried(lambda: model.raw(_inputs(model, trial, columns)))
    own = tuple(map(str, getattr(estimator, "classes_", ()))) if trial.classes else ()
    model.scores = _scores(raw, kind, own or saved.classes, trial)
    return Adopted(model, columns)


def _channels(number: Any) -> Literal[0, 1, 3]:
    return number if number in (1, 3) else 0


def _size(height: int, width: int) -> dict[str, int]:
    return {"height": height, "width": width} if height and width else {}


def _pixels(folder: Path, trial: Trial, channels: Literal[0, 1, 3]) -> PixelInput:
    """As the image processor beside the model says, or else as the settings do."""
    path = folder / PROCESSOR_FILE
    if path.is_file():
        try:
            return from_processor(json.loads(path.read_text()), channels)
        except (ValueError, TypeError, KeyError) as error:
            raise NotServed(f"{PROCESSOR_FILE} cannot be read: {str(error).splitlines()[0]}") from error
    given = trial.image_input
    return PixelInput(channels=channels, scale=given.scale, mean=given.mean, std=given.std)


def _all_columns(trial: Trial, wanted: int) -> tuple[str, ...]:
    assert trial.table is not None
    columns = tuple(map(str, trial.table.columns))
    if wanted and len(columns) != wanted:
        raise NotServed(
            f"it takes {wanted} columns, the data has {len(columns)} ({', '.join(columns[:10])}); "
            "give all of them to the model, or keep the columns' names with it"
        )
    return columns


def _inputs(model: Any, trial: Trial, columns: tuple[str, ...]) -> Any:
    from tasks.train.model_inputs import ShapesInputs, stack_images, stack_table

    own = isinstance(model, ShapesInputs)
    if trial.images is not None:
        return model.stack_images(trial.images) if own else stack_images(trial.images)
    assert trial.table is not None
    return model.stack_table(trial.table, columns) if own else stack_table(trial.table, columns)


def _tried(ask: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The outputs for the trial's rows.

    Raises:
        NotServed: The model fails on them, or gives no finite numbers.
    """
    try:
        raw = np.asarray(ask())
    except TrainyardError:
        raise
    except Exception as error:  # whatever the library behind the model raises
        raise NotServed(f"it fails on rows of the dataset: {str(error).splitlines()[0][:300]}") from error
    if raw.dtype.kind in "fiu" and not np.isfinite(np.asarray(raw, dtype=np.float64)).all():
        raise InvalidData("the model gives NaN or infinity for rows of the dataset")
    return raw


def _scores(raw: NDArray[Any], kind: Kind, own: tuple[str, ...], trial: Trial) -> Scores:
    """How the outputs are read: whose class each is.

    Args:
        raw: Outputs for the trial's rows.
        kind: What they are.
        own: Class names that the model itself says, by output; none if it says nothing.
        trial: The rows with their labels.
    """
    rows = len(trial.labels)
    if not trial.classes:
        if np.size(raw) != rows:
            raise NotServed(f"it gives {np.size(raw) // max(rows, 1)} numbers a row; regression takes one")
        return Scores(kind="values")
    count = len(trial.classes)
    if kind == "labels":
        outputs = count
    else:
        outputs = 2 if kind.startswith("positive") else int(np.size(raw) // max(rows, 1))
    places = _places(own, outputs, trial.classes)
    if places is None:
        if outputs != count:
            raise NotServed(
                f"it gives {outputs} numbers a row, the dataset has {count} classes "
                f"({', '.join(trial.classes[:10])})"
            )
        # Nothing says which output is which class: of the usual orders, the one that is right most often.
        ways = [Scores(kind=kind, places=order, classes=count) for order in trial.orders]
        right = [float((way.of(raw).argmax(axis=1) == trial.labels).mean()) for way in ways]
        return ways[int(np.argmax(right))]
    return Scores(kind=kind, places=places, classes=count)


def _places(own: tuple[str, ...], outputs: int, classes: tuple[str, ...]) -> tuple[int, ...] | None:
    """The dataset's class of each output by its name or number; None where the model does not say."""
    if not own:
        return None
    if len(own) != outputs:
        raise NotServed(f"it names {len(own)} classes and gives {outputs} numbers a row")
    place = {name: index for index, name in enumerate(classes)}
    if all(name in place for name in own):
        return tuple(place[name] for name in own)
    numbers = [int(name) for name in own if name.isdecimal()]
    if len(numbers) == len(own) and max(numbers) < len(classes):
        return None if len(own) == len(classes) else tuple(numbers)
    unknown = [name for name in own if name not in place]
    raise NotServed(
        f"it names classes that the dataset does not have: {', '.join(unknown[:5])}; "
        f"the dataset's are {', '.join(classes[:10])}"
    )
