"""From what a model of own code gives to probabilities in the order of the dataset's classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from tasks.errors import InvalidRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["probabilities", "logits", "positive", "positive logit", "labels", "values"]
"""`positive` is the probability of the second of two classes; `labels` are numbers of classes."""


class Scores(BaseModel):
    """How a model's outputs are read.

    Args:
        kind: What the numbers are.
        places: For each output of the model, in order, the dataset's class that it is of; empty for
            regression.
        classes: Classes of the dataset; 0 for regression.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    places: tuple[int, ...] = ()
    classes: int = 0

    def of(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Scores of rows.

        Args:
            raw: Numbers `[n, outputs]`, or `[n]` where a row gives one.

        Returns:
            Probabilities float32 `[n, classes]`, or values `[n]` for regression.

        Raises:
            InvalidRequest: The model answers rows with labels that are no class, or with more or fewer
                numbers than when it was adopted.
        """
        if self.kind == "values":
            return np.asarray(raw, dtype=np.float32).reshape(len(raw))
        if self.kind == "labels":
            labels = self._labels(raw)
            scores = np.zeros((len(raw), self.classes), dtype=np.float32)
            scores[np.arange(len(raw)), np.asarray(self.places)[labels]] = 1.0
            return scores
        own = np.asarray(raw, dtype=np.float64).reshape(len(raw), -1)
        if self.kind == "positive logit":
            own = 1.0 / (1.0 + np.exp(-np.clip(own, -500, 500)))
        if self.kind in ("positive", "positive logit"):
            own = np.concatenate([1.0 - own, own], axis=1)
        if self.kind == "logits":
            own = np.exp(own - own.max(axis=1, keepdims=True))
            own /= own.sum(axis=1, keepdims=True)
        if own.shape[1] != len(self.places):
            raise InvalidRequest(
                f"the model gives {own.shape[1]} numbers for a row; {len(self.places)} were expected",
                where="output of the model",
            )
        scores = np.zeros((len(raw), self.classes), dtype=np.float32)
        scores[:, list(self.places)] = own
        return scores

    def _labels(self, raw: NDArray[Any]) -> NDArray[np.int64]:
        """Numbers of classes int64 `[n]`, all of them within the map."""
        if np.size(raw) != len(raw):
            raise InvalidRequest(
                f"the model gives {np.size(raw) // len(raw)} labels for a row; one was expected",
                where="output of the model",
            )
        labels = np.asarray(raw).reshape(len(raw)).astype(np.int64)
        unknown = np.unique(labels[(labels < 0) | (labels >= len(self.places))])
        if len(unknown):
            raise InvalidRequest(
                f"the model answers with the label {', '.join(map(str, unknown[:5]))}, which is no class",
                where="output of the model",
                allowed=f"0 to {len(self.places) - 1}",
                mend="let the model number its classes from 0, or answer with probabilities",
            )
        return labels
