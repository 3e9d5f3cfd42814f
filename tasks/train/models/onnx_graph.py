"""Models of own code kept as ONNX graphs, run by ONNX Runtime on the processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tasks.errors import Damaged
from tasks.train.model_inputs import stack_table
from tasks.train.models.own_scores import Scores
from tasks.train.models.pixel_input import PixelInput

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from PIL import Image

    from tasks.train.algorithms.fit import Json

ROWS_AT_ONCE = 128
NUMPY_OF = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
}
"""Types of inputs that are given, and NumPy's names of them."""


class OnnxModel:
    """A graph with one input and the output that is read.

    Args:
        content: The file, whole: no data beside it.
        output: Name of the output.
        scores: How it is read.
        pixels: How pictures are made into inputs; None for tables.
        rows_at_once: Rows that the graph takes in one call; 1 where its first axis is fixed so.
        size: Learned numbers.
    """

    format: ClassVar[str] = "onnx"

    def __init__(
        self,
        content: bytes,
        output: str,
        scores: Scores,
        pixels: PixelInput | None,
        rows_at_once: int = ROWS_AT_ONCE,
        size: int = 0,
    ) -> None:
        self.content = content
        self.session = open_session(content)
        self.input = self.session.get_inputs()[0]
        self.output, self.scores, self.pixels = output, scores, pixels
        self.rows_at_once, self.parameters = rows_at_once, size

    def stack_images(self, images: Sequence[Image.Image]) -> NDArray[Any]:
        assert self.pixels is not None
        return self.pixels.stack(images)

    def stack_table(self, table: pd.DataFrame, inputs: Sequence[str]) -> NDArray[Any]:
        return stack_table(table, inputs).astype(NUMPY_OF[self.input.type])

    def raw(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """The output as the graph gives it."""
        parts = []
        for start in range(0, len(inputs), self.rows_at_once):
            rows = np.ascontiguousarray(inputs[start : start + self.rows_at_once])
            parts.append(np.asarray(self.session.run([self.output], {self.input.name: rows})[0]))
        return np.concatenate(parts)

    def predict(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        if not len(inputs):
            return np.empty((0, self.scores.classes) if self.scores.classes else (0,), dtype=np.float32)
        return self.scores.of(self.raw(inputs))

    def save(self, path: Path) -> None:
        path.write_bytes(self.content)

    def description(self) -> dict[str, Json]:
        return {
            "output": self.output,
            "scores": self.scores.model_dump(mode="json"),
            "pixels": self.pixels.model_dump(mode="json") if self.pixels else None,
            "rows_at_once": self.rows_at_once,
            "parameters": self.parameters,
        }

    @classmethod
    def load(cls, path: Path, description: dict[str, Any]) -> OnnxModel:
        pixels = description["pixels"]
        try:
            return cls(
                path.read_bytes(),
                description["output"],
                Scores.model_validate(description["scores"]),
                PixelInput.model_validate(pixels) if pixels else None,
                description["rows_at_once"],
                description["parameters"],
            )
        except Exception as error:  # ONNX Runtime has a family of its own
            raise Damaged(f"ONNX Runtime cannot read the model: {error}", where=str(path)) from error


def open_session(content: bytes) -> Any:
    """A session on the processor; what it logs is for errors only."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2  # one request is small, and there are others
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
