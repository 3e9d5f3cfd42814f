"""Which model lies in `EM_MODEL_DIR`: found by its files, opened without running anything of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.errors import InvalidData
from tasks.train.own_code.contract import is_special

Form = Literal["transformers", "onnx", "lightgbm", "skops"]

SERVED = (
    "a folder of save_pretrained (config.json and model.safetensors) for images; .onnx; LightGBM's "
    "text (Booster.save_model); .skops; or an MLflow model with one of these inside"
)
CLASS_FILES = ("label_names.json", "classes.json")
_MOST_TEXT = 8 * 2**20
_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")
_RUNS_CODE = {
    ".pkl": "pickle", ".pickle": "pickle", ".joblib": "joblib, which is pickle", ".pt": "PyTorch's pickle",
    ".pth": "PyTorch's pickle", ".ckpt": "pickle", ".bin": "PyTorch's pickle", ".dill": "pickle",
    ".cbm": "", ".keras": "Keras", ".h5": "Keras", ".hdf5": "Keras", ".pb": "TensorFlow", ".tflite": "TFLite",
    ".pt2": "PyTorch's exported program", ".ubj": "XGBoost", ".npz": "NumPy", ".npy": "NumPy",
}  # fmt: skip
_MLFLOW_FLAVOURS = ("transformers", "onnx", "lightgbm", "sklearn")


@dataclass(frozen=True)
class Saved:
    """A model in a form that is served.

    Attributes:
        form: Which one.
        path: Its file; the folder of a transformers model.
        classes: Names of its outputs, where a file beside it says them.
    """

    form: Form
    path: Path
    classes: tuple[str, ...]


class NotServed(Exception):
    """What was saved is a model, or several, that no endpoint here can serve; says why."""


def first_line(error: Exception) -> str:
    """What a library says of a failure, at most 300 characters of it."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def find_saved(folder: Path) -> Saved:
    """Recognise what the code saved.

    The folder itself is looked at first; then its only sub-folder with a model, or of the
    `checkpoint-<n>` folders of a Trainer the last one.

    Args:
        folder: `EM_MODEL_DIR`.

    Raises:
        InvalidData: There is no file at all.
        NotServed: What there is cannot be served.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    if not files:
        raise InvalidData(
            "the code saved no model: EM_MODEL_DIR is empty",
            where="EM_MODEL_DIR",
            allowed=SERVED,
            mend='save the model below os.environ["EM_MODEL_DIR"] before the code ends',
        )
    special = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if is_special(path))
    if special:  # no more is opened: that might never end
        raise NotServed(f"{', '.join(special[:5])}: a pipe, a socket or a device; leave files alone there")
    found = _in(folder)
    if found is None:
        below = {path: one for path in _inner(folder) if (one := _in(path)) is not None}
        numbered = {int(m[1]): one for path, one in below.items() if (m := _CHECKPOINT.match(path.name))}
        if len(below) == 1:
            found = next(iter(below.values()))
        elif below and len(numbered) == len(below):
            found = numbered[max(numbered)]
        elif below:
            names = ", ".join(sorted(path.name for path in below)[:5])
            raise NotServed(f"there are models in several folders ({names}), and none above them")
    if found is None:
        raise NotServed(_why_not(files, folder))
    return found


def _in(folder: Path) -> Saved | None:
    """The model of one folder, by what its files are."""
    if (folder / "MLmodel").is_file():
        return _of_mlflow(folder)
    classes = _classes(folder)
    has_weights = (folder / "model.safetensors").is_file() or (
        folder / "model.safetensors.index.json"
    ).is_file()
    if (folder / "config.json").is_file() and has_weights:
        return Saved("transformers", folder, classes)
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    forms: list[tuple[Form, Path]] = []
    for path in files:
        suffix = path.suffix.lower()
        if suffix == ".onnx":
            forms.append(("onnx", path))
        elif suffix == ".skops":
            forms.append(("skops", path))
        elif _is_lightgbm(path):
            forms.append(("lightgbm", path))
    if len(forms) > 1:
        raise NotServed(
            f"there are several models beside each other ({', '.join(path.name for _, path in forms)}); "
            "leave one in EM_MODEL_DIR"
        )
    return Saved(forms[0][0], forms[0][1], classes) if forms else None


def _of_mlflow(folder: Path) -> Saved:
    """The file inside an MLflow model, if its flavour keeps one that is served."""
    import yaml

    try:
        flavours = yaml.safe_load(_text(folder / "MLmodel"))["flavors"]
        named = {name: about for name, about in flavours.items() if isinstance(about, dict)}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise NotServed(f"the file MLmodel cannot be read: {error}") from error
    for flavour in _MLFLOW_FLAVOURS:
        if flavour not in named:
            continue
        about = named[flavour]
        inner = str(
            about.get("pickled_model")
            or about.get("data")
            or about.get("model_data")
            or about.get("model_binary")
            or ""
        )
        path = folder / inner
        if not path.resolve().is_relative_to(folder.resolve()):
            raise NotServed("the file MLmodel points outside of its folder")
        if path.is_dir() and (found := _in(path)) is not None:
            return Saved(found.form, found.path, found.classes or _classes(folder))
        if path.suffix.lower() == ".onnx":
            return Saved("onnx", path, _classes(folder))
        if path.suffix.lower() == ".skops" or about.get("serialization_format") == "skops":
            return Saved("skops", path, _classes(folder))
        if path.is_file() and _is_lightgbm(path):
            return Saved("lightgbm", path, _classes(folder))
        kept = about.get("serialization_format") or path.suffix or "another form"
        hint = {
            "sklearn": ' (log it with serialization_format="skops")',
            "lightgbm": " (log the Booster, booster_ of an estimator)",
        }.get(flavour, "")
        raise NotServed(
            f"the MLflow model of flavour {flavour} is kept as {kept}, which can run code or is not read "
            f"here{hint}"
        )
    names = ", ".join(name for name in named if name != "python_function") or "python_function"
    raise NotServed(f"the MLflow model is of flavour {names}, whose files can run code or are not read here")


def _inner(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink() and len(path.relative_to(folder).parts) <= 3:
            if any((above / "MLmodel").is_file() for above in path.parents if above.is_relative_to(folder)):
                continue
            yield path


def _is_lightgbm(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(5) == b"tree\n"


def _classes(folder: Path) -> tuple[str, ...]:
    """Names of the outputs in order: a list, or a mapping of names by number."""
    for name in CLASS_FILES:
        try:
            named: Any = json.loads(_text(folder / name))
        except FileNotFoundError:
            continue
        except (ValueError, RecursionError) as error:
            raise NotServed(f"{name} beside the model is not JSON: {error}") from error
        if isinstance(named, dict):
            try:
                named = [named[key] for key in sorted(named, key=int)]
            except (TypeError, ValueError) as error:
                raise NotServed(f"{name} beside the model has keys that are no numbers") from error
        if not isinstance(named, list):
            raise NotServed(f"{name} beside the model is no list of names")
        return tuple(map(str, named))
    return ()


def _text(path: Path) -> str:
    """Content of a small file: it is read by the flow's own process."""
    if path.stat().st_size > _MOST_TEXT:
        raise NotServed(f"{path.name} has more than {_MOST_TEXT // 2**20} MiB")
    return path.read_text()


def _why_not(files: list[Path], folder: Path) -> str:
    suffixes = {path.suffix.lower() for path in files}
    names = ", ".join(sorted(str(path.relative_to(folder)) for path in files)[:5])
    if ".safetensors" in suffixes:
        return (
            f"the weights ({names}) have no config.json beside them that says which network they belong to; "
            "save with transformers' save_pretrained, or export to ONNX"
        )
    for suffix in sorted(suffixes & _RUNS_CODE.keys()):
        kind = _RUNS_CODE[suffix] or "a format of its own"
        risk = "can run code when it is opened" if "pickle" in kind else "is not read here"
        return f"{names}: {suffix} ({kind}) {risk}; save as one of: {SERVED}"
    return f"{names}: no model that is known; save as one of: {SERVED}"
