"""scikit-learn estimators kept as skops: arrays and plain attributes, with every type named beforehand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tasks.errors import Damaged
from tasks.train.models.scikit_learn_checks import check

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.train.algorithms.fit import Json

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
"""Types beyond the ones that skops itself knows to be harmless. A tree is arrays and no code; before it
is asked, `scikit_learn_checks` looks at where its links point."""


def weights_of_inputs(estimator: Any) -> NDArray[np.float64] | None:
    """How much each input weighs in a fitted estimator.

    Of forests the mean decrease in impurity (Breiman, 2001), of linear models the size of the
    coefficients, which tells something only where the inputs have one scale. Of a pipeline nothing: its
    first steps may give its last one other columns than it was given.

    Returns:
        float64 `[inputs]`, adding up to 1; None where nobody can tell.
    """
    estimator = getattr(estimator, "regressor_", estimator)
    if hasattr(estimator, "feature_importances_"):
        weights = np.asarray(estimator.feature_importances_, dtype=np.float64)
    elif hasattr(estimator, "coef_"):
        weights = np.abs(np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))).mean(axis=0)
    else:
        return None
    total = float(weights.sum())
    return weights / total if total > 0 else None


class ScikitLearnModel:
    """A fitted estimator.

    Args:
        estimator: The fitted scikit-learn estimator.
        outputs: Classes of the dataset, which may be more than the rows showed; 0 for regression;
            numbers that a row becomes where `gives` says which.
        gives: What comes out: `predictions` (probabilities or values), `distances` to the centres of
            clusters, or principal `components`.
        sharpness: What decision values are multiplied by before they become probabilities, for
            estimators that give none: the inverse temperature of Guo et al. (2017).
        found: What else the fit found, plain JSON; kept with the model.
    """

    format: ClassVar[str] = "skops"

    def __init__(
        self,
        estimator: Any,
        outputs: int,
        *,
        gives: str = "predictions",
        sharpness: float | None = None,
        found: dict[str, Json] | None = None,
    ) -> None:
        self.estimator = estimator
        self.outputs = outputs
        self.gives = gives
        self.sharpness = sharpness
        self.found = found or {}

    @property
    def parameters(self) -> int:
        """Nodes of all trees, or numbers in coefficients, support vectors, neighbours or centres."""
        estimator = getattr(self.estimator, "regressor_", self.estimator)
        if hasattr(estimator, "estimators_"):
            return int(sum(tree.tree_.node_count for tree in estimator.estimators_))
        sizes = [np.size(getattr(estimator, name)) for name in _LEARNED if name in vars(estimator)]
        return int(sum(sizes))

    def importance(self) -> NDArray[np.float64] | None:
        """How much each input weighs: see `weights_of_inputs`."""
        return weights_of_inputs(self.estimator)

    def predict(self, inputs: NDArray[np.uint8] | NDArray[np.float64]) -> NDArray[np.float32]:
        if not len(inputs):  # which scikit-learn refuses
            return np.empty((0, self.outputs) if self.outputs else (0,), dtype=np.float32)
        if self.gives != "predictions":
            return np.asarray(self.estimator.transform(inputs), dtype=np.float32)
        if not self.outputs:
            return np.asarray(self.estimator.predict(inputs), dtype=np.float32).reshape(-1)
        seen = self._probabilities(inputs)
        if seen.shape[1] == self.outputs:
            return np.asarray(seen, dtype=np.float32)
        scores = np.zeros((len(seen), self.outputs), dtype=np.float32)
        scores[:, self.estimator.classes_] = seen
        return scores

    def _probabilities(self, inputs: NDArray[np.uint8] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the classes that the rows showed."""
        if self.sharpness is None:
            return np.asarray(self.estimator.predict_proba(inputs), dtype=np.float64)
        from scipy.special import softmax

        decisions = self.estimator.decision_function(inputs)
        if decisions.ndim == 1:
            decisions = np.stack([-decisions, decisions], axis=1)
        return np.asarray(softmax(self.sharpness * decisions, axis=1), dtype=np.float64)

    def save(self, path: Path) -> None:
        io.dump(self.estimator, path)

    def description(self) -> dict[str, Json]:
        about: dict[str, Json] = {"outputs": self.outputs}
        if self.gives != "predictions":
            about["gives"] = self.gives
        if self.sharpness is not None:
            about["sharpness"] = self.sharpness
        return about | ({"found": self.found} if self.found else {})

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
        try:
            check(estimator, path)
        except (AttributeError, TypeError, ValueError) as error:
            raise Damaged(
                f"the model is not whole: {error}", where=str(path), mend="train the model again"
            ) from error
        sharpness, found = description.get("sharpness"), description.get("found")
        return cls(
            estimator,
            int(str(description["outputs"])),
            gives=str(description.get("gives", "predictions")),
            sharpness=float(str(sharpness)) if sharpness is not None else None,
            found=found if isinstance(found, dict) else None,
        )


_LEARNED = (
    "coef_",
    "intercept_",
    "support_vectors_",
    "dual_coef_",
    "_fit_X",
    "cluster_centers_",
    "components_",
    "mean_",
)
