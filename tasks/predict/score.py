"""What a worker does with a batch: open the model once, predict, write the results' part."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import orjson
from PIL import Image, UnidentifiedImageError

from tasks.data.formats.images import open_image, plain
from tasks.data.sources.source import Reader
from tasks.errors import InvalidRequest, TrainyardError
from tasks.predict.sources import Batch
from tasks.refs import Problem
from tasks.train.bundle import Bundle

if TYPE_CHECKING:
    from numpy.typing import NDArray

Files = tuple[tuple[str, bytes], ...]
"""A bundle as its files' names and contents: what is sent to workers on any host."""


def packed(folder: Path) -> Files:
    """A bundle's files."""
    return tuple((path.name, path.read_bytes()) for path in sorted(folder.iterdir()) if path.is_file())


def score_and_write(
    files: Files,
    batch: Batch,
    reader: Reader,
    target: str,
    target_options: dict[str, Any],
) -> tuple[int, int]:
    """Predict a batch and write its records.

    Args:
        files: The bundle.
        batch: The inputs.
        reader: Reads `batch.files`.
        target: URL of the part to write; its ending says the format.
        target_options: fsspec options of the target.

    Returns:
        Rows, and those of them without a prediction.
    """
    bundle = _open(files)
    records = score(bundle, batch, reader)
    filesystem, path = fsspec.core.url_to_fs(target, **target_options)
    with filesystem.open(path, "wb") as file:
        file.write(_encoded(records, bundle, path))
    return len(records), sum("error" in record for record in records)


def score(bundle: Bundle, batch: Batch, reader: Reader) -> list[dict[str, Any]]:
    """One record a row, in order: `id` with `prediction` as an endpoint gives it, or with `error`."""
    inputs: list[Any] = []
    errors: dict[int, str] = {}
    if batch.frame is not None:
        inputs = list(range(len(batch)))
    else:
        for row in range(len(batch)):
            try:
                inputs.append(_input(bundle, batch, row, reader))
            except (TrainyardError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                errors[row] = _words(error)
                inputs.append(None)
    whole = [row for row in range(len(batch)) if row not in errors]
    scores, failed = _predict(bundle, batch, inputs, whole)
    errors |= failed
    return [
        {"id": row_id, "error": errors[row]}
        if row in errors
        else {"id": row_id, **_record(scores[row], bundle)}
        for row, row_id in enumerate(batch.ids)
    ]


def _predict(
    bundle: Bundle, batch: Batch, inputs: list[Any], rows: list[int]
) -> tuple[dict[int, NDArray[Any]], dict[int, str]]:
    """Scores by row; a batch that fails as a whole is halved until the rows at fault stand alone."""
    if not rows:
        return {}, {}
    try:
        if batch.frame is not None:
            scores = bundle.predict_table(batch.frame.iloc[rows])
        elif bundle.problem.is_table:
            scores = bundle.predict_table([inputs[row] for row in rows])
        else:
            scores = bundle.predict_images([inputs[row] for row in rows])
    except Exception as error:  # kept in the records of the rows that caused it
        if len(rows) == 1:
            return {}, {rows[0]: _words(error)}
        half = len(rows) // 2
        first, first_errors = _predict(bundle, batch, inputs, rows[:half])
        second, second_errors = _predict(bundle, batch, inputs, rows[half:])
        return first | second, first_errors | second_errors
    finite = [bool(np.isfinite(row_scores).all()) for row_scores in scores]
    good = {row: row_scores for row, row_scores, ok in zip(rows, scores, finite, strict=True) if ok}
    bad = {row: "The score is not a finite number." for row, ok in zip(rows, finite, strict=True) if not ok}
    return good, bad


def _input(bundle: Bundle, batch: Batch, row: int, reader: Reader) -> Any:
    if batch.files is not None:
        return plain(open_image(reader.read(batch.files[row])))
    assert batch.instances is not None  # a batch has a frame, files or instances
    instance = batch.instances[row]
    if bundle.problem.is_table:
        names = [feature.name for feature in bundle.features]
        if isinstance(instance, dict):
            missing = [name for name in names if name not in instance]
            if missing:
                raise InvalidRequest(f"The row has no {', '.join(missing)}", allowed=", ".join(names))
            return [instance[name] for name in names]
        if not isinstance(instance, list) or len(instance) != len(names):
            raise InvalidRequest(
                "The row is not a list of the model's values",
                allowed=f"{len(names)} values: {', '.join(names)}",
            )
        return instance
    if not isinstance(instance, dict) or not isinstance(instance.get("data"), str):
        raise InvalidRequest("The row holds no image", allowed='{"data": "<base64 of the image file>"}')
    try:
        content = base64.b64decode(instance["data"], validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"'data' is not base64: {error}") from error
    return plain(open_image(content))


def _record(scores: NDArray[Any], bundle: Bundle) -> dict[str, Any]:
    """A row's prediction as an endpoint answers it; for classes and clusters the best one besides."""
    if not bundle.problem.has_scores:
        return {"prediction": float(scores)}
    if bundle.problem is Problem.TABLE_DIMENSION_REDUCTION:
        return {"prediction": [float(score) for score in scores]}
    nearest = bundle.problem is Problem.TABLE_CLUSTERING
    best = bundle.classes[int(np.argmin(scores) if nearest else np.argmax(scores))]
    if bundle.problem is Problem.IMAGE_CLASSIFICATION:
        order = np.argsort(-scores, kind="stable")
        ranked = [{"score": float(scores[place]), "label": bundle.classes[place]} for place in order]
        return {"prediction": ranked, "label": best}
    return {"prediction": [float(score) for score in scores], "label": best}


def _encoded(records: list[dict[str, Any]], bundle: Bundle, path: str) -> bytes:
    if path.endswith(".jsonl"):
        return b"".join(orjson.dumps(record) + b"\n" for record in records)
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = pa.float64()
    prediction: Any = number
    if bundle.problem.is_table and bundle.problem.has_scores:
        prediction = pa.list_(number)
    elif bundle.problem is Problem.IMAGE_CLASSIFICATION:
        prediction = pa.list_(pa.struct([("score", number), ("label", pa.string())]))
    fields = [("id", pa.string()), ("prediction", prediction), ("label", pa.string()), ("error", pa.string())]
    if bundle.problem in (Problem.TABLE_REGRESSION, Problem.TABLE_DIMENSION_REDUCTION):
        fields.pop(2)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records, schema=pa.schema(fields)), sink)
    return sink.getvalue()


def _words(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "The file is not an image of a known kind."
    text = str(error) or type(error).__name__
    return text[:1].upper() + text[1:300]


def _open(files: Files) -> Bundle:
    digest = hashlib.sha256()
    for name, content in files:
        digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return _open_once(digest.hexdigest(), files)


@lru_cache(maxsize=1)
def _open_once(digest: str, files: Files) -> Bundle:
    """The bundle; a worker answers many batches with the one that it has open."""
    with tempfile.TemporaryDirectory(prefix="bundle-") as scratch:
        for name, content in files:
            (Path(scratch) / name).write_bytes(content)
        return Bundle.load(Path(scratch))
