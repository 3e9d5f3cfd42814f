"""Weights to start from: a safetensors file, or a folder as `save_pretrained` of transformers writes it.

Nothing else is read: other formats of weights are pickles, which run code when they are opened.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from tasks.errors import InvalidSettings

log = logging.getLogger(__name__)

ALLOWED = "a .safetensors file, or a folder with config.json and model.safetensors"
NAMED = 5
"""Weights that a message names before it counts the rest."""


def load_whole(network: nn.Module, path: Path, title: str) -> str:
    """Fill a network from a safetensors file that has exactly its weights.

    Raises:
        InvalidSettings: The file is missing, in another format, or of another network.
    """
    stored = _read(path)
    own = network.state_dict()
    wrong = sorted(
        name
        for name in own.keys() | stored.keys()
        if name not in own or name not in stored or own[name].shape != stored[name].shape
    )
    if wrong:
        raise InvalidSettings(
            f"{len(wrong)} of the {len(own)} weights of this {title} are missing in the file or have another "
            f"shape there, such as {_named(wrong)}",
            where=str(path),
            allowed="weights of the same algorithm, hyperparameters, image size and number of classes",
            mend="train with the settings that the weights were learned with, or start without them",
        )
    network.load_state_dict(stored)
    told = f"Starts from all {len(own)} weights of {path.name}."
    log.info(told)
    return told


def load_fitting(network: nn.Module, path: Path, title: str) -> str:
    """Fill a wrapped model of transformers with all stored weights that fit it.

    Weights are matched by name. A first convolution for colour images is summed over its channels for
    grey ones (and spread for the reverse), position embeddings are interpolated to another grid, and
    what has another shape, such as the last layer for other classes, keeps its random start.

    Args:
        network: An `ImageClassifier`.
        path: A folder of the same architecture, or a file of its weights.
        title: The network's name for people.

    Raises:
        InvalidSettings: Nothing can be read there, or nothing that fits.
    """
    model: Any = network.model
    stored = _read_folder(path, type(model)) if path.is_dir() else _read(path)
    prefix = f"{model.base_model_prefix}."
    own = model.state_dict()
    taken: dict[str, Tensor] = {}
    for name, target in own.items():
        if name.endswith("num_batches_tracked"):
            continue
        for known_as in (name, f"model.{name}", name.removeprefix(prefix)):
            fitted = _fitted(stored[known_as], target, name) if known_as in stored else None
            if fitted is not None:
                taken[name] = fitted
                break
    left = [name for name in own if name not in taken and not name.endswith("num_batches_tracked")]
    # Statistics and biases of equal widths fit anything: a layer counts by the weights that it learns from.
    if not any(target.ndim > 1 for target in taken.values()):
        raise InvalidSettings(
            f"no weights there fit this {title}, which has {len(own)}",
            where=str(path),
            allowed=f"weights of the same architecture ({model.config.model_type}) and size",
            mend="choose the algorithm that the weights are of, or start without them",
        )
    model.load_state_dict(taken, strict=False)
    told = f"Starts from {len(taken)} of {len(taken) + len(left)} weights of {path.name}"
    told += f"; {len(left)} start from random numbers: {_named(left)}." if left else "."
    log.info(told)
    return told


def _fitted(stored: Tensor, target: Tensor, name: str) -> Tensor | None:
    """The stored weight in the target's shape; None where it does not fit."""
    if stored.shape == target.shape:
        return stored
    if stored.ndim == target.ndim == 4 and _but(stored, 1) == _but(target, 1):
        if target.shape[1] == 1:  # grey is the sum of equal colours
            return stored.sum(dim=1, keepdim=True)
        if stored.shape[1] == 1:
            return stored.expand_as(target) / target.shape[1]
    if name.endswith("position_embeddings") and stored.ndim == 3 and stored.shape[2] == target.shape[2]:
        return _positions(stored, target)
    return None


def _but(tensor: Tensor, left_out: int) -> list[int]:
    return [side for axis, side in enumerate(tensor.shape) if axis != left_out]


def _positions(stored: Tensor, target: Tensor) -> Tensor | None:
    """Position embeddings `[1, 1 + a * a, width]` for a square grid of another side; None if one is not."""
    before, after = (round((tensor.shape[1] - 1) ** 0.5) for tensor in (stored, target))
    if before**2 + 1 != stored.shape[1] or after**2 + 1 != target.shape[1]:
        return None
    grid = stored[:, 1:].reshape(1, before, before, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, (after, after), mode="bicubic", align_corners=False)
    whole = target.clone()
    whole[:, :1] = stored[:, :1]
    whole[:, 1:] = grid.permute(0, 2, 3, 1).reshape(1, after * after, -1)
    return whole


def _read(path: Path) -> Mapping[str, Tensor]:
    """Tensors of a safetensors file by name."""
    if not path.is_file():
        raise InvalidSettings(
            "there are no weights to start from", where=str(path), allowed=ALLOWED, mend="correct the path"
        )
    if path.suffix != ".safetensors":
        raise _refused(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InvalidSettings(
            f"the weights cannot be read: {error}", where=str(path), allowed=ALLOWED, mend="write them again"
        ) from error


def _read_folder(folder: Path, kind: Any) -> Mapping[str, Tensor]:
    """Weights of a pretrained folder by their present names, without those that it does not have.

    transformers reads it, since it knows the older names of weights and files in pieces.

    Args:
        folder: With config.json and safetensors files.
        kind: The class of transformers that the weights are of.
    """
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        pickles = [file for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in folder.glob(pattern)]
        if pickles:
            raise _refused(pickles[0])
        raise InvalidSettings(
            "there are no pretrained weights in the folder",
            where=str(folder),
            allowed=ALLOWED,
            mend="give the folder that save_pretrained wrote",
        )
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type != kind.config_class.model_type:
            raise InvalidSettings(
                f"the weights are of the architecture {config.model_type}",
                where=str(folder),
                allowed=f"weights of {kind.config_class.model_type}",
                mend="choose the algorithm that the weights are of",
            )
        model, about = kind.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            dtype="float32",
            output_loading_info=True,
        )
    except InvalidSettings:
        raise
    except Exception as error:  # a damaged folder fails in any of transformers' many ways
        raise InvalidSettings(
            f"the pretrained weights cannot be read: {error}",
            where=str(folder),
            allowed=ALLOWED,
            mend="save them again with save_pretrained",
        ) from error
    made_up = set(about["missing_keys"]) | {name for name, *_ in about["mismatched_keys"]}
    return {name: weight for name, weight in model.state_dict().items() if name not in made_up}


def _refused(path: Path) -> InvalidSettings:
    return InvalidSettings(
        f"weights in a {path.suffix or 'nameless'} file are not read: they may be a pickle, which runs code",
        where=str(path),
        allowed=ALLOWED,
        mend="save them as safetensors, as save_pretrained of transformers does",
    )


def _named(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
