"""Try an endpoint: held-out rows over HTTP, each answer held against the evaluation's, row for row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from tasks.data.read import RawSplit
from tasks.errors import Damaged, Unavailable
from tasks.evaluate.examples import instances_of, scores_of, sendable_rows
from tasks.refs import EndpointRef, Problem

if TYPE_CHECKING:
    import pandas as pd

#: Held-out rows to send in each form.
ROWS = 16
#: Largest difference of a score from the evaluation's.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class SmokeResult:
    """What the trial showed.

    Attributes:
        rows: Rows that were sent in each form.
        forms: Request forms that were tried.
        version: Model version that answered.
        largest_difference: Of a score from the evaluation's.
    """

    rows: int
    forms: tuple[str, ...]
    version: str
    largest_difference: float


def try_endpoint(
    endpoint: EndpointRef,
    token: str,
    raw: RawSplit,
    predictions: pd.DataFrame,
    problem: Problem,
    classes: tuple[str, ...],
) -> SmokeResult:
    """Send raw rows in every request form and compare.

    Args:
        endpoint: Where to.
        token: The endpoint's token.
        raw: Held-out rows; the first `ROWS` that a client could send are tried.
        predictions: Stored predictions of the served version for those rows.
        problem: Which answers to expect.
        classes: Class names in the order of the stored scores; none for regression.

    Raises:
        Unavailable: The endpoint does not answer, or with an error.
        Damaged: An answer differs from the evaluation's.
    """
    rows = sendable_rows(raw, ROWS)
    ids = [raw.ids[row] for row in rows]
    expected = np.asarray(scores_of(predictions, ids), dtype=np.float64)
    with httpx.Client(headers={"token": token}, timeout=30, trust_env=False) as client:
        answer = _post(client, endpoint, json={"instances": instances_of(raw, rows)})
        got = _scores(answer.json()["predictions"], problem, classes)
        largest = _compare(got, expected, ids, problem, endpoint)
        forms = ["json"]
        if raw.contents is not None:
            forms.append("multipart")
            for row, row_id, scores in zip(rows, ids, expected, strict=True):
                text = _post(client, endpoint, files={"input": (row_id, raw.contents[row])}).text
                _compare_label(text, scores, row_id, classes, endpoint)
    return SmokeResult(len(rows), tuple(forms), answer.headers.get("x-model-version", ""), largest)


def _post(client: httpx.Client, endpoint: EndpointRef, **content: Any) -> httpx.Response:
    try:
        answer = client.post(endpoint.url, **content)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"endpoint {endpoint.name} does not answer: {error or type(error).__name__}",
            where=endpoint.url,
            mend="see the endpoint's log",
        ) from error
    if answer.status_code != 200:
        raise Unavailable(
            f"endpoint {endpoint.name} answered {answer.status_code}: {answer.text[:300]}",
            where=endpoint.url,
            mend="see the endpoint's log",
        )
    return answer


def _scores(predictions: list[Any], problem: Problem, classes: tuple[str, ...]) -> np.ndarray:
    """An answer's predictions as an array in class order."""
    if problem is not Problem.IMAGE_CLASSIFICATION:
        return np.asarray(predictions, dtype=np.float64)
    by_label = [{entry["label"]: entry["score"] for entry in ranked} for ranked in predictions]
    return np.asarray([[scores[name] for name in classes] for scores in by_label], dtype=np.float64)


def _compare(
    got: np.ndarray,
    expected: np.ndarray,
    ids: list[str],
    problem: Problem,
    endpoint: EndpointRef,
) -> float:
    if got.shape != expected.shape:
        raise Damaged(
            f"the answer has shape {got.shape}, the evaluation {expected.shape}", where=endpoint.url
        )
    difference = np.abs(got - expected)
    if not problem.is_classification:
        difference /= np.maximum(np.abs(expected), 1.0)
    by_row = difference.max(axis=1) if difference.ndim == 2 else difference
    worst = int(by_row.argmax())
    if not by_row[worst] <= TOLERANCE:
        raise Damaged(
            f"the endpoint's answer for {ids[worst]} differs from the evaluation's by {by_row[worst]:.2g}",
            where=endpoint.url,
            allowed=f"a difference of at most {TOLERANCE:g}",
            mend="the served model is not the evaluated one: serve it again, or register it again",
        )
    return float(by_row[worst])


def _compare_label(
    text: str,
    scores: np.ndarray,
    row_id: str,
    classes: tuple[str, ...],
    endpoint: EndpointRef,
) -> None:
    """Check a form's answer; where two classes are level, either is right."""
    from tasks.serve.wire import Signature

    labels = Signature(Problem.IMAGE_CLASSIFICATION, classes=classes).labels
    right = {f"[{labels[place]}]" for place in np.flatnonzero(scores >= scores.max() - TOLERANCE)}
    if text not in right:
        raise Damaged(
            f"the endpoint's answer for {row_id} in the multipart form is {text[:40]!r}",
            where=endpoint.url,
            allowed=" or ".join(sorted(right)),
            mend="the served model is not the evaluated one: serve it again, or register it again",
        )
