"""What of a scikit-learn estimator must be looked at before it is asked.

Types that skops trusts are not enough: trees, support vectors and neighbours are read by compiled code
that follows indices without a look at bounds. Here they are checked to point nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import Damaged

KERNELS = {"rbf", "linear", "poly", "sigmoid"}
DEEPEST = 20


def check(part: Any, path: Path, depth: int = 0) -> None:
    """Look through an estimator, and all that are within it.

    Args:
        part: What was read from a file.
        path: The file, for errors.
        depth: How far within it is.

    Raises:
        Damaged: Something points outside of its arrays, or is of a kind that cannot be checked.
    """
    from sklearn.base import BaseEstimator
    from sklearn.svm._base import BaseLibSVM

    if depth > DEEPEST:
        raise _broken("the model is nested too deeply", path)
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, np.ndarray) and part.dtype == object:
        part = part.ravel().tolist()
    if isinstance(part, list | tuple):
        for one in part:
            check(one, path, depth + 1)
        return
    if not isinstance(part, BaseEstimator):
        return
    if hasattr(part, "tree_"):
        _check_tree(part.tree_, path)
    if hasattr(part, "_fit_method"):
        _check_neighbours(part, path)
    if isinstance(part, BaseLibSVM) and "support_vectors_" in vars(part):  # else it is not fitted
        _check_support_vectors(part, path)
    for one in vars(part).values():
        check(one, path, depth + 1)


def _check_tree(tree: Any, path: Path) -> None:
    """Links that point outside of the tree or backwards, and columns that are not there."""
    place = np.arange(tree.node_count)
    leaf = tree.children_left == -1
    for children in (tree.children_left, tree.children_right):
        inside = (children > place) & (children < tree.node_count)
        if not np.where(leaf, children == -1, inside).all():
            raise _broken("a tree's links are broken", path)
    columns = tree.feature[~leaf]
    if ((columns < 0) | (columns >= tree.n_features)).any():
        raise _broken("a tree asks for columns that are not there", path)


def _check_neighbours(model: Any, path: Path) -> None:
    """Rows in a plain array, and classes that there are; no search tree, which is compiled state."""
    rows = model._fit_X
    if model._fit_method != "brute" or model._tree is not None or not isinstance(rows, np.ndarray):
        raise _broken("the neighbours are not in a plain array", path)
    sound = (
        rows.ndim == 2
        and rows.dtype == np.float64
        and rows.shape == (model.n_samples_fit_, model.n_features_in_)
        and isinstance(model.n_neighbors, int)
        and 1 <= model.n_neighbors <= len(rows)
    )
    labels = getattr(model, "_y", None)
    if sound and labels is not None:
        sound = len(labels) == len(rows)
        if sound and hasattr(model, "classes_"):
            sound = bool(
                labels.ndim == 1
                and np.issubdtype(labels.dtype, np.integer)
                and ((labels >= 0) & (labels < len(model.classes_))).all()
            )
    if not sound:
        raise _broken("the neighbours do not fit together", path)


def _check_support_vectors(model: Any, path: Path) -> None:
    """Counts and shapes by which libsvm finds its way through the vectors."""
    vectors, counts = model.support_vectors_, model._n_support
    classes = len(getattr(model, "classes_", (0, 1)))
    machines = classes * (classes - 1) // 2
    numbers = len(vectors)
    sound = (
        not model._sparse
        and isinstance(model.kernel, str)
        and model.kernel in KERNELS
        and vectors.ndim == 2
        and vectors.dtype == np.float64
        and tuple(model.shape_fit_)[1:] == (vectors.shape[1],) == (model.n_features_in_,)
        and len(model.support_) == numbers
        and model._dual_coef_.shape == (classes - 1, numbers)
        and model._intercept_.shape == (machines,)
        and (counts >= 0).all()
        and _counted(model, counts, classes, numbers)
        and not len(model._probA)
        and not len(model._probB)
    )
    if not sound:
        raise _broken("the support vectors do not fit together", path)


def _counted(model: Any, counts: Any, classes: int, numbers: int) -> bool:
    if hasattr(model, "classes_"):
        return len(counts) == classes and int(counts.sum()) == numbers
    return len(counts) == 2 and int(counts[0]) == numbers  # a regression's second count is never read


def _broken(what: str, path: Path) -> Damaged:
    return Damaged(what, where=str(path), mend="train the model again")
