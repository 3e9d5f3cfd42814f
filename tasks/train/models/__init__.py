"""The files that models are kept as, one format a file. None of them can hold code.

A format's module is imported only when a model of that format is opened, so a scikit-learn bundle is
served without PyTorch and the other way round.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import Damaged

if TYPE_CHECKING:
    from tasks.train.algorithms.fit import FittedModel, Json

FORMATS = {
    "safetensors": "weights.safetensors",
    "skops": "model.skops",
    "lightgbm": "model.lightgbm.txt",
    "onnx": "model.onnx",
    "transformers": "transformers.safetensors",
    "own-skops": "own.skops",
    "own-lightgbm": "own.lightgbm.txt",
    "ensemble": "ensemble.zip",
}
"""Format to file name in a bundle; onnx, transformers and own-… are what own code may save."""


def load(kind: str, path: Path, description: dict[str, Json]) -> FittedModel:
    """Open a model file.

    Args:
        kind: Key of `FORMATS`.
        path: The file.
        description: What `FittedModel.description` gave when it was written.

    Raises:
        Damaged: The format is unknown, or the file does not hold what its format says.
    """
    match kind:
        case "safetensors":
            from tasks.train.models.network import NetworkModel

            return NetworkModel.load(path, description)
        case "skops":
            from tasks.train.models.scikit_learn import ScikitLearnModel

            return ScikitLearnModel.load(path, description)
        case "lightgbm":
            from tasks.train.models.lightgbm_text import LightgbmModel

            return LightgbmModel.load(path, description)
        case "onnx":
            from tasks.train.models.onnx_graph import OnnxModel

            return OnnxModel.load(path, description)
        case "transformers":
            from tasks.train.models.transformers_weights import TransformersModel

            return TransformersModel.load(path, description)
        case "own-skops":
            from tasks.train.models.own_scikit_learn import OwnScikitLearnModel

            return OwnScikitLearnModel.load(path, description)
        case "own-lightgbm":
            from tasks.train.models.own_lightgbm import OwnLightgbmModel

            return OwnLightgbmModel.load(path, description)
        case "ensemble":
            from tasks.train.models.ensemble import EnsembleModel

            return EnsembleModel.load(path, description)
    raise Damaged(f"unknown model format '{kind}'", where=str(path), allowed=", ".join(FORMATS))
