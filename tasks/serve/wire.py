"""What goes over the wire at an endpoint: requests into model inputs, scores into answers.

Pure functions, one table: the formats of the two request forms (JSON `instances`, multipart `input`)
and their answers. Everything that a client can get wrong ends in a `Refusal` with its HTTP status and
a sentence that says what is wrong, at which instance, what is allowed and how to mend it.

JSON is read by orjson: it refuses NaN, Infinity, numbers that overflow, and nesting deeper than 1,024,
which Python's own reader lets through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from tasks.errors import InvalidRequest
from tasks.refs import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Refusal(InvalidRequest):
    """A request that is answered with an error status instead of predictions."""

    def __init__(self, status: int, what: str, *, where: str = "", allowed: str = "", mend: str = "") -> None:
        super().__init__(what, where=where, allowed=allowed, mend=mend)
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.status, self.what, self.where, self.allowed, self.mend))


def _rebuild(status: int, what: str, where: str, allowed: str, mend: str) -> Refusal:
    return Refusal(status, what, where=where, allowed=allowed, mend=mend)


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for."""

    max_instances: int = 512
    max_body_bytes: int = 32 * 2**20
    max_image_pixels: int = 50_000_000
    max_request_pixels: int = 100_000_000


@dataclass(frozen=True)
class Column:
    """One column of a table, as the model was trained on it."""

    name: str
    numeric: bool
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives: enough to read a request and to write its answer."""

    problem: Problem
    columns: tuple[Column, ...] = ()
    classes: tuple[str, ...] = ()
    labels: tuple[int, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _integer_labels(self.classes))


def _integer_labels(classes: Sequence[str]) -> tuple[int, ...]:
    """The integer that stands for each class: the class itself where all are integers, else its place."""
    try:
        return tuple(int(name) for name in classes)
    except ValueError:
        return tuple(range(len(classes)))


def read_instances(body: bytes, limits: Limits) -> list[Any]:
    """The list under `instances` of a JSON body.

    Raises:
        Refusal: 400 where the body is not such a document, 413 where it holds too many instances.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(
            400,
            f"the body is not valid JSON: {error.msg} at character {error.pos}",
            where="request body",
            allowed='a JSON object such as {"instances": [...]}; NaN and Infinity are not JSON',
            mend="check the body with a JSON parser before sending it",
        ) from None
    if not isinstance(document, dict):
        raise Refusal(
            400,
            f"the body is {kind_of(document)}",
            where="request body",
            allowed='a JSON object such as {"instances": [...]}',
            mend="put the inputs in a list under the key 'instances'",
        )
    if "instances" not in document:
        keys = ", ".join(repr(key)[:40] for key in list(document)[:5]) or "none"
        raise Refusal(
            400,
            f"the key 'instances' is missing (keys found: {keys})",
            where="request body",
            allowed='a JSON object such as {"instances": [...]}',
            mend="put the inputs in a list under the key 'instances'",
        )
    if len(document) > 1:
        others = ", ".join(repr(key)[:40] for key in document if key != "instances")
        raise Refusal(
            400,
            f"the body has keys beside 'instances': {others[:200]}",
            where="request body",
            allowed="the key 'instances' alone",
            mend="leave the other keys out",
        )
    instances = document["instances"]
    if not isinstance(instances, list):
        raise Refusal(
            400,
            f"'instances' is {kind_of(instances)}",
            where="instances",
            allowed="a list with one entry per input",
            mend="send a list, also for a single input",
        )
    if not instances:
        raise Refusal(
            400,
            "'instances' is an empty list",
            where="instances",
            allowed=f"1 to {limits.max_instances} instances",
            mend="send at least one input",
        )
    if len(instances) > limits.max_instances:
        raise Refusal(
            413,
            f"the request holds {len(instances)} instances",
            where="instances",
            allowed=f"at most {limits.max_instances} instances in one request",
            mend="send several smaller requests, or use batch inference",
        )
    return instances


def read_rows(instances: list[Any], signature: Signature) -> list[list[float | str]]:
    """Table rows in the model's column order; every value is checked.

    Raises:
        Refusal: 400 with the instance and column of the first value that the model cannot take.
    """
    columns = signature.columns
    width = len(columns)
    for index, row in enumerate(instances):
        if type(row) is not list:
            raise Refusal(
                400,
                f"instance {index} is {kind_of(row)}",
                where=f"instances[{index}]",
                allowed=f"a list of {width} values: {_names(columns)}",
                mend="send each row as a list of its values",
            )
        if len(row) != width:
            raise Refusal(
                400,
                f"instance {index} has {len(row)} values",
                where=f"instances[{index}]",
                allowed=f"{width} values: {_names(columns)}",
                mend="send one value per column, in this order",
            )
        for place, (value, column) in enumerate(zip(row, columns, strict=True)):
            kind = type(value)
            if column.numeric:
                if kind is float or kind is int:
                    continue
                allowed = "a number"
            else:
                if kind is str or (kind in (int, float) and not _all_words(column)):
                    continue
                allowed = "a text" + (f", one of {_listed(column.categories)}" if column.categories else "")
            raise Refusal(
                400,
                f"value {place} of instance {index} ({column.name}) is {kind_of(value)}",
                where=f"instances[{index}][{place}]",
                allowed=allowed,
                mend=(
                    "fill in the missing value before sending"
                    if value is None
                    else f"send {column.name} as {allowed}"
                ),
            )
    return instances


def write_predictions(scores: NDArray[Any], signature: Signature) -> bytes:
    """The JSON answer.

    Args:
        scores: Probabilities in class order, float `[n, classes]`; distances to the centres of clusters,
            or components; for regression values, float `[n]`.
        signature: Of the model that made them.

    Returns:
        For tables `{"predictions": [[p, …], …]}` or, for regression, `{"predictions": [y, …]}`; for
        images `{"predictions": [[{"score": p, "label": "<class>"}, …best first], …]}`.
    """
    predictions: Any
    if signature.problem is Problem.IMAGE_CLASSIFICATION:
        order = np.argsort(-scores, axis=1, kind="stable")
        ranked = np.take_along_axis(scores, order, axis=1).astype(float)
        predictions = [
            [
                {"score": score, "label": signature.classes[place]}
                for score, place in zip(row, places, strict=True)
            ]
            for row, places in zip(ranked.tolist(), order.tolist(), strict=True)
        ]
    else:
        predictions = np.ascontiguousarray(scores)
    return orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


def write_label(scores: NDArray[Any], signature: Signature) -> bytes:
    """The text answer to a multipart request, `[<integer label>]` of the best class.

    Args:
        scores: Probabilities of one image, float `[1, classes]`.
        signature: Of the model that made them.
    """
    best = int(np.argmax(scores[0]))
    return f"[{signature.labels[best]}]".encode()


def check_scores(scores: NDArray[Any], rows: int, signature: Signature) -> str | None:
    """What is wrong with a model's output, or None: its shape, and that every number is finite."""
    expected = (rows, len(signature.classes)) if signature.problem.has_scores else (rows,)
    if scores.shape != expected:
        return f"the model gave scores of shape {scores.shape} where {expected} is right"
    if not np.isfinite(scores).all():
        return "the model gave scores that are not finite numbers"
    return None


def _all_words(column: Column) -> bool:
    """Whether a categorical column holds only texts; a column of codes takes numbers as well."""
    return not all(_is_number(category) for category in column.categories)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def kind_of(value: object) -> str:
    """A JSON value in words, short enough to stand in a sentence."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"a boolean ({str(value).lower()})"
    if isinstance(value, str):
        return f"a text ({value[:40]!r})"
    if isinstance(value, int | float):
        return f"a number ({value})"
    return "a list" if isinstance(value, list) else "an object"


def _names(columns: Sequence[Column]) -> str:
    return _listed([column.name for column in columns], limit=20)


def _listed(words: Sequence[str], limit: int = 12) -> str:
    shown = ", ".join(str(word) for word in words[:limit])
    return shown if len(words) <= limit else f"{shown}, and {len(words) - limit} more"
