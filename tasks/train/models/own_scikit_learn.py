"""scikit-learn estimators and pipelines of own code, kept as skops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tasks.errors import Damaged, InvalidRequest
from tasks.train.model_inputs import stack_table
from tasks.train.models.own_scores import Scores
from tasks.train.models.pixel_input import PixelInput
from tasks.train.models.scikit_learn import TRUSTED, io, weights_of_inputs
from tasks.train.models.scikit_learn_checks import check

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from PIL import Image

    from tasks.train.algorithms.fit import Json

HARMLESS = [
    *TRUSTED,
    "numpy.dtype",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.compose._column_transformer.make_column_selector",
]
"""Besides what built-ins have: parts of a `ColumnTransformer`, which hold names and types."""


class OwnScikitLearnModel:
    """A fitted estimator, or a pipeline that ends in one.

    Args:
        estimator: What the code saved.
        scores: How its answers are read.
        columns: The columns that it was fitted on by name, which it is given as a frame; none for an
            estimator that was fitted on plain numbers.
        pixels: How pictures are made into rows of numbers; None for tables.
    """

    format: ClassVar[str] = "own-skops"

    def __init__(
        self, estimator: Any, scores: Scores, columns: Sequence[str] = (), pixels: PixelInput | None = None
    ) -> None:
        self.estimator, self.scores = estimator, scores
        self.columns, self.pixels = tuple(columns), pixels

    @property
    def parameters(self) -> int:
        """Numbers in all arrays that fitting left: nodes of trees, coefficients, support vectors."""
        return _learned(self.estimator)

    def stack_images(self, images: Sequence[Image.Image]) -> NDArray[Any]:
        assert self.pixels is not None
        return self.pixels.stack(images)

    def stack_table(self, table: pd.DataFrame, inputs: Sequence[str]) -> Any:
        """The frame as it was in the files, with its texts, or rows of numbers."""
        if not self.columns:
            return stack_table(table, inputs)
        lacking = [name for name in self.columns if name not in table.columns]
        if lacking:
            raise InvalidRequest(f"the rows lack {', '.join(lacking)}", where="columns after preprocessing")
        return table[list(self.columns)]

    def importance(self) -> NDArray[np.float64] | None:
        """How much each input weighs: see `weights_of_inputs`."""
        return weights_of_inputs(self.estimator)

    def raw(self, inputs: Any) -> NDArray[Any]:
        """Probabilities, decision values, or values."""
        if self.scores.kind in ("labels", "values"):
            return np.asarray(self.estimator.predict(inputs))
        if self.scores.kind in ("logits", "positive logit"):
            return np.asarray(self.estimator.decision_function(inputs))
        return np.asarray(self.estimator.predict_proba(inputs))

    def predict(self, inputs: Any) -> NDArray[np.float32]:
        if not len(inputs):
            return np.empty((0, self.scores.classes) if self.scores.classes else (0,), dtype=np.float32)
        try:
            raw = self.raw(inputs)
        except (ValueError, TypeError) as error:  # a gap or a text where its pipeline takes none
            raise InvalidRequest(
                f"the model cannot take the rows: {error}".splitlines()[0], where="columns of the rows"
            ) from error
        return self.scores.of(raw)

    def save(self, path: Path) -> None:
        io.dump(self.estimator, path)

    def description(self) -> dict[str, Json]:
        return {
            "scores": self.scores.model_dump(mode="json"),
            "columns": list(self.columns),
            "pixels": self.pixels.model_dump(mode="json") if self.pixels else None,
        }

    @classmethod
    def load(cls, path: Path, description: dict[str, Any]) -> OwnScikitLearnModel:
        pixels = description["pixels"]
        return cls(
            read_estimator(path),
            Scores.model_validate(description["scores"]),
            description["columns"],
            PixelInput.model_validate(pixels) if pixels else None,
        )


def read_estimator(path: Path) -> Any:
    """Open a skops file.

    Raises:
        Damaged: It holds types that could run code, or is not whole.
    """
    try:
        unknown = sorted(set(io.get_untrusted_types(file=path)) - set(HARMLESS))
        if unknown:
            raise Damaged(
                f"the file holds types that are not trusted: {', '.join(unknown)}",
                where=path.name,
                allowed="scikit-learn's own estimators and pipelines; no functions, no search trees",
                mend="train such a model, or export it as ONNX",
            )
        estimator = io.load(path, trusted=HARMLESS)
        check(estimator, path)
    except Damaged:
        raise
    except Exception as error:  # zipfile, json and skops each have their own families
        raise Damaged(f"the file is no skops file: {error}", where=path.name) from error
    return estimator


def _learned(part: Any, depth: int = 0) -> int:
    if depth > 10:
        return 0
    if hasattr(part, "tree_"):
        return int(part.tree_.node_count)
    if isinstance(part, np.ndarray):
        if part.dtype == object:
            return sum(_learned(one, depth + 1) for one in part.ravel())
        return int(part.size) if part.dtype.kind == "f" else 0
    if isinstance(part, list | tuple):
        return sum(_learned(one, depth + 1) for one in part)
    if type(part).__module__.startswith("sklearn.") and hasattr(part, "__dict__"):
        fitted = (value for name, value in vars(part).items() if name.endswith("_") or name == "steps")
        return sum(_learned(value, depth + 1) for value in fitted)
    return 0
