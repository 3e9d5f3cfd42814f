"""LightGBM boosters of own code, kept in LightGBM's text format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import lightgbm
import numpy as np

from tasks.errors import Damaged
from tasks.train.models.lightgbm_text import gains
from tasks.train.models.own_scores import Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.train.algorithms.fit import Json


class OwnLightgbmModel:
    """A booster with all its rounds, or those up to its best one where it knows that.

    Args:
        booster: What the code saved.
        scores: How its outputs are read.
    """

    format: ClassVar[str] = "own-lightgbm"

    def __init__(self, booster: lightgbm.Booster, scores: Scores) -> None:
        self.booster, self.scores = booster, scores

    @property
    def parameters(self) -> int:
        """Leaves of all trees."""
        return sum(tree["num_leaves"] for tree in self.booster.dump_model()["tree_info"])

    def importance(self) -> NDArray[np.float64] | None:
        """How much each input gains over all splits: see `gains`."""
        return gains(self.booster)

    def raw(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """What the booster gives."""
        return np.asarray(self.booster.predict(inputs, num_threads=1 if len(inputs) < 256 else 0))

    def predict(self, inputs: NDArray[np.uint8] | NDArray[np.float64]) -> NDArray[np.float32]:
        if not len(inputs):
            return np.empty((0, self.scores.classes) if self.scores.classes else (0,), dtype=np.float32)
        return self.scores.of(self.raw(inputs))

    def save(self, path: Path) -> None:
        self.booster.save_model(path)

    def description(self) -> dict[str, Json]:
        return {"scores": self.scores.model_dump(mode="json")}

    @classmethod
    def load(cls, path: Path, description: dict[str, Any]) -> OwnLightgbmModel:
        try:
            booster = lightgbm.Booster(model_file=path)
        except lightgbm.basic.LightGBMError as error:
            raise Damaged(f"LightGBM cannot read the model: {error}", where=str(path)) from error
        return cls(booster, Scores.model_validate(description["scores"]))
