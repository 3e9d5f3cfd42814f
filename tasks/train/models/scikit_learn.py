"""scikit-learn estimators kept as skops: arrays and plain attributes, with every type named beforehand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tasks.errors import Damaged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.train.algorithms.algorithm import Json

_ARRAY_BRIDGES = [f"sklearn.externals.array_api_compat.{name}" for name in ("torch", "dask")]
"""Packages that skops, which walks all of scikit-learn when it is imported, must not open on its way:
they import PyTorch and Dask, two seconds and 250 MB that no scikit-learn model needs."""


def _import_skops() -> Any:
    """Import skops.io without the bridges; a `None` in `sys.modules` makes an import fail quietly."""
    blocked = [name for name in _ARRAY_BRIDGES if name not in sys.modules]
    sys.modules.update(dict.fromkeys(blocked))  # type: ignore[arg-type]
    try:
        return importlib.import_module("skops.io")
    finally:
        for name in blocked:
            del sys.modules[name]


io = _import_skops()

TRUSTED = ["sklearn.tree._tree.Tree"]
"""Types beyond the ones that skops itself knows to be harmless. A tree is arrays and no code, but its
links are followed without a look at their bounds, so `_check_tree` looks at them first."""


class ScikitLearnModel:
    """A fitted classifier or regressor.

    Args:
        estimator: The fitted scikit-learn estimator.
        outputs: Classes of the dataset, which may be more than the rows showed; 0 for regression.
    """

    format: ClassVar[str] = "skops"

    def __init__(self, estimator: Any, outputs: int) -> None:
        self.estimator = estimator
        self.outputs = outputs

    @property
    def parameters(self) -> int:
        """Coefficients of a linear model, or nodes of all trees of a forest."""
        if hasattr(self.estimator, "estimators_"):
            return int(sum(tree.tree_.node_count for tree in self.estimator.estimators_))
        return int(np.size(self.estimator.coef_) + np.size(self.estimator.intercept_))

    def predict(self, inputs: NDArray[np.uint8] | NDArray[np.float64]) -> NDArray[np.float32]:
        if not len(inputs):  # which scikit-learn refuses
            return np.empty((0, self.outputs) if self.outputs else (0,), dtype=np.float32)
        if not self.outputs:
            return np.asarray(self.estimator.predict(inputs), dtype=np.float32)
        seen = self.estimator.predict_proba(inputs)
        if seen.shape[1] == self.outputs:
            return np.asarray(seen, dtype=np.float32)
        scores = np.zeros((len(seen), self.outputs), dtype=np.float32)
        scores[:, self.estimator.classes_] = seen
        return scores

    def save(self, path: Path) -> None:
        io.dump(self.estimator, path)

    def description(self) -> dict[str, Json]:
        return {"outputs": self.outputs}

    @classmethod
    def load(cls, path: Path, description: dict[str, Json]) -> ScikitLearnModel:
        unknown = sorted(set(io.get_untrusted_types(file=path)) - set(TRUSTED))
        if unknown:
            raise Damaged(
                f"the model file holds types that are not trusted: {', '.join(unknown)}",
                where=str(path),
                mend="train the model again",
            )
        estimator = io.load(path, trusted=TRUSTED)
        for part in getattr(estimator, "estimators_", []):
            _check_tree(part.tree_, path)
        return cls(estimator, int(str(description["outputs"])))


def _check_tree(tree: Any, path: Path) -> None:
    """Refuse a tree with a link or a column number that points outside of it, or backwards."""
    place = np.arange(tree.node_count)
    leaf = tree.children_left == -1
    for children in (tree.children_left, tree.children_right):
        inside = (children > place) & (children < tree.node_count)
        if not np.where(leaf, children == -1, inside).all():
            raise Damaged("a tree's links are broken", where=str(path), mend="train the model again")
    columns = tree.feature[~leaf]
    if ((columns < 0) | (columns >= tree.n_features)).any():
        raise Damaged("a tree asks for columns that are not there", where=str(path), mend="train it again")
