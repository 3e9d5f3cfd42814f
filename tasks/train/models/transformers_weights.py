"""Image classifiers of transformers that own code saved: their configuration, and weights as safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tasks.errors import Damaged
from tasks.train.models.own_scores import Scores
from tasks.train.models.pixel_input import PixelInput

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from tasks.train.algorithms.fit import Json

ROWS_AT_ONCE = 64


class TransformersModel:
    """A network of a transformers architecture.

    Args:
        network: An image classifier: takes `pixel_values` `[n, c, h, w]`, gives `logits`.
        scores: How the logits are read.
        pixels: How pictures are made into inputs.
    """

    format: ClassVar[str] = "transformers"

    def __init__(self, network: Any, scores: Scores, pixels: PixelInput) -> None:
        self.network = network.eval()
        self.scores, self.pixels = scores, pixels

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    def stack_images(self, images: Sequence[Image.Image]) -> NDArray[Any]:
        return self.pixels.stack(images)

    def raw(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Logits, float32 `[n, outputs]`."""
        import torch

        parts = []
        with torch.inference_mode():
            for start in range(0, len(inputs), ROWS_AT_ONCE):
                rows = torch.from_numpy(inputs[start : start + ROWS_AT_ONCE])
                parts.append(self.network(pixel_values=rows).logits.float().numpy())
        return np.concatenate(parts)

    def predict(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        if not len(inputs):
            return np.empty((0, self.scores.classes), dtype=np.float32)
        return self.scores.of(self.raw(inputs))

    def save(self, path: Path) -> None:
        from safetensors.torch import save_file

        # Weights that are tied share memory, which the format has no word for.
        save_file({k: v.detach().clone().contiguous() for k, v in self.network.state_dict().items()}, path)

    def description(self) -> dict[str, Json]:
        return {
            "config": self.network.config.to_dict(),
            "architecture": type(self.network).__name__,
            "scores": self.scores.model_dump(mode="json"),
            "pixels": self.pixels.model_dump(mode="json"),
        }

    @classmethod
    def load(cls, path: Path, description: dict[str, Any]) -> TransformersModel:
        from safetensors.torch import load_file

        try:
            network = built(description["config"], description["architecture"])
            network.load_state_dict(load_file(path))
        except Exception as error:  # transformers, torch and safetensors each have their own families
            raise Damaged(f"the weights do not fit the network: {error}", where=str(path)) from error
        pixels = PixelInput.model_validate(description["pixels"])
        return cls(network, Scores.model_validate(description["scores"]), pixels)


def built(config: dict[str, Any], architecture: str) -> Any:
    """An untrained network of an architecture that transformers itself has; no code of others is run.

    Raises:
        ValueError: There is no such image classifier.
    """
    import transformers

    if not architecture.endswith("ForImageClassification") or not hasattr(transformers, architecture):
        raise ValueError(f"transformers has no image classifier {architecture}")
    kind = getattr(transformers, architecture)
    plain = {k: v for k, v in config.items() if k not in ("auto_map", "torch_dtype", "dtype")}
    return kind(kind.config_class.from_dict(plain))
