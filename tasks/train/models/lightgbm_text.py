"""LightGBM boosters kept in LightGBM's own text format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import lightgbm
import numpy as np

from tasks.errors import Damaged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.train.algorithms.fit import Json


def gains(booster: lightgbm.Booster, rounds: int | None = None) -> NDArray[np.float64] | None:
    """How much each input of a booster gains over all splits.

    Args:
        booster: The trained booster.
        rounds: Rounds that count; None for all, or those up to the best where the booster knows it.

    Returns:
        float64 `[inputs]`, adding up to 1; None where no tree splits.
    """
    gained = booster.feature_importance("gain", iteration=rounds).astype(np.float64)
    total = float(gained.sum())
    return gained / total if total > 0 else None


class LightgbmModel:
    """A trained booster, cut at its best round."""

    format: ClassVar[str] = "lightgbm"

    def __init__(self, booster: lightgbm.Booster, rounds: int) -> None:
        self.booster = booster
        self.rounds = rounds

    @property
    def parameters(self) -> int:
        """Leaves of all trees."""
        return sum(
            tree["num_leaves"] for tree in self.booster.dump_model(num_iteration=self.rounds)["tree_info"]
        )

    def importance(self) -> NDArray[np.float64] | None:
        """How much each input gains over all splits: see `gains`."""
        return gains(self.booster, self.rounds)

    def predict(self, inputs: NDArray[np.uint8] | NDArray[np.float64]) -> NDArray[np.float32]:
        # One row is scored faster by one thread than by waking a pool of them.
        threads = 1 if len(inputs) < 256 else 0
        scores = self.booster.predict(inputs, num_iteration=self.rounds, num_threads=threads)
        return np.asarray(scores, dtype=np.float32)

    def save(self, path: Path) -> None:
        self.booster.save_model(path, num_iteration=self.rounds)

    def description(self) -> dict[str, Json]:
        return {"rounds": self.rounds}

    @classmethod
    def load(cls, path: Path, description: dict[str, Json]) -> LightgbmModel:
        try:
            booster = lightgbm.Booster(model_file=path)
        except lightgbm.basic.LightGBMError as error:
            raise Damaged(f"LightGBM cannot read the model: {error}", where=str(path)) from error
        return cls(booster, int(str(description["rounds"])))
