"""From the model that the code saved to one that predicts like a built-in."""

from __future__ import annotations

from collections.abc import Callable

from tasks.errors import TrainyardError
from tasks.refs import Problem
from tasks.train.own_code.saved_model import Form, NotServed, Saved, first_line
from tasks.train.own_code.trial import Adopted, Trial

MOST_BYTES = 2 * 2**30
_PROBLEMS = (Problem.IMAGE_CLASSIFICATION, Problem.TABLE_CLASSIFICATION, Problem.TABLE_REGRESSION)


def require_adoptable(saved: Saved, problem: Problem) -> None:
    """Refuse what needs no look inside.

    Raises:
        NotServed: No such problem is served, or the model is too large.
    """
    if problem not in _PROBLEMS:
        raise NotServed(f"models for {problem.value} are not served yet")
    path = saved.path
    size = sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())
    if size > MOST_BYTES:
        raise NotServed(f"it has {size / 2**30:.1f} GiB, more than the 2 GiB that one file may have")


def adopt(saved: Saved, trial: Trial) -> Adopted:
    """Open a saved model, and find out how its outputs are to be read.

    Args:
        saved: Of a form and for a problem that `require_adoptable` lets through.
        trial: Rows that it is tried on.

    Raises:
        NotServed: It cannot be served for this problem, or does not fit the dataset; says why.
    """
    try:
        return _way(saved.form)(saved, trial)
    except NotServed:
        raise
    except TrainyardError as error:
        raise NotServed(f"{error.what}{f' ({error.where})' if error.where else ''}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # files that say something odd
        raise NotServed(f"its files cannot be read: {first_line(error)}") from error


def _way(form: Form) -> Callable[[Saved, Trial], Adopted]:
    """How a form is adopted; only the library behind it is imported."""
    match form:
        case "transformers":
            from tasks.train.own_code.forms import transformers_weights

            return transformers_weights.adopt
        case "onnx":
            from tasks.train.own_code.forms import onnx_graph

            return onnx_graph.adopt
        case "lightgbm":
            from tasks.train.own_code.forms import lightgbm_text

            return lightgbm_text.adopt
        case "skops":
            from tasks.train.own_code.forms import scikit_learn

            return scikit_learn.adopt
