"""The program that opens what own code saved, and tries it: a graph may run for ever, or eat all memory.

    python -m tasks.train.own_code.try_model FOLDER

In the folder it finds `request.json` and the rows, and leaves `answer.json` and, of a model that is served,
the bundle.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import feather
from pydantic import BaseModel, ConfigDict

from tasks.data.formats.images import open_image
from tasks.data.preparation.preprocessing import Preprocessing
from tasks.data.read import RawSplit
from tasks.errors import InvalidData, InvalidRequest, TrainyardError
from tasks.refs import Problem
from tasks.train.algorithms.algorithm import Value
from tasks.train.algorithms.fit import Metrics
from tasks.train.bundle import Bundle, TrainedOn
from tasks.train.own_code.adopting import adopt
from tasks.train.own_code.config import ImageInput
from tasks.train.own_code.saved_model import Form, NotServed, Saved
from tasks.train.own_code.trial import Trial, guessed_pixels
from tasks.train.scores import split_scores

NAME = "own_code"
"""What stands in records where a built-in algorithm has its name."""

REQUEST, ANSWER, BUNDLE = "request.json", "answer.json", "bundle"


class Request(BaseModel):
    """A model to be tried, and what its bundle is to say.

    Attributes:
        form: What it is kept as.
        path: Its file or folder.
        named: Names of its outputs, where a file beside it says them.
        problem: What is to be predicted.
        classes: The dataset's, in the order of the labels.
        orders: See `Trial`.
        label: Name of what is predicted.
        image_input: How pixels become numbers where the model does not say it.
        preprocessing: From raw rows to those of the version.
        hyperparameters: Of the training.
        seed: Of the training.
        dataset: The version that it learned from.
        splits: Whose rows lie in the folder; its outputs are understood by the first of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Form
    path: Path
    named: tuple[str, ...]
    problem: Problem
    classes: tuple[str, ...]
    orders: tuple[tuple[int, ...], ...]
    label: str | None
    image_input: ImageInput
    preprocessing: Preprocessing
    hyperparameters: dict[str, Value]
    seed: int
    dataset: TrainedOn
    splits: tuple[str, ...]


def write_rows(folder: Path, split: str, rows: RawSplit, labels: np.ndarray) -> None:
    """Lay out the raw rows of a split, with their labels in the numbers of the version's classes."""
    if rows.contents is not None:
        table = pa.table({"content": pa.array(rows.contents, pa.large_binary())})
    else:
        table = pa.Table.from_pandas(rows.table, preserve_index=False)
    feather.write_feather(table, str(folder / f"{split}.arrow"), compression="uncompressed")
    np.save(folder / f"{split}.npy", labels)


def _read_rows(folder: Path, split: str, problem: Problem) -> tuple[Any, np.ndarray]:
    """Decoded pictures, or a frame; and the labels."""
    table = feather.read_table(str(folder / f"{split}.arrow"))
    labels = np.load(folder / f"{split}.npy", allow_pickle=False)
    if problem.is_table:
        return table.to_pandas(), labels
    return [open_image(content) for content in table["content"].to_pylist()], labels


def try_model(folder: Path) -> tuple[Metrics, str]:
    """Adopt the model, write the bundle, and score it as an endpoint would answer.

    Args:
        folder: With the request and the rows.

    Returns:
        Loss and headline metric of each split; and what was guessed of its pixels, see `guessed_pixels`.

    Raises:
        NotServed: The model cannot be served; says why.
        InvalidData: It gives numbers that are not finite.
    """
    request = Request.model_validate_json((folder / REQUEST).read_bytes())
    steps, is_table = request.preprocessing, request.problem.is_table
    rows, labels = _read_rows(folder, request.splits[0], request.problem)
    images = None if is_table else steps.images(rows)
    adopted = adopt(
        Saved(request.form, request.path, request.named),
        Trial(
            problem=request.problem,
            classes=request.classes,
            orders=request.orders,
            images=images,
            table=steps.table(rows) if is_table else None,
            labels=labels,
            image_input=request.image_input,
        ),
    )
    beside = request.path if request.path.is_dir() else request.path.parent
    guessed = guessed_pixels(beside, adopted.model, images)
    Bundle.write(
        folder / BUNDLE,
        model=adopted.model,
        preprocessing=steps,
        problem=request.problem,
        algorithm=NAME,
        hyperparameters=dict(request.hyperparameters),
        seed=request.seed,
        classes=request.classes,
        label=request.label,
        inputs=adopted.inputs,
        dataset=request.dataset,
    )
    bundle = Bundle.load(folder / BUNDLE)  # what is scored here is what will be served
    metrics: Metrics = {}
    for split in request.splits:
        rows, labels = _read_rows(folder, split, request.problem)
        try:
            predicted = bundle.predict_table(rows) if is_table else bundle.predict_images(rows)
        except InvalidRequest as error:  # of a row that it was not tried on
            raise NotServed(f"it does not answer rows of the split {split}: {error.what}") from error
        if not np.isfinite(predicted).all():
            raise InvalidData(
                "the model gives NaN or infinity for rows of the dataset",
                where=f"split {split}",
                mend="look for a loss that is NaN, and for weights that grow without end",
            )
        metrics |= split_scores(split, request.problem, labels, predicted)
    return metrics, guessed


def main() -> None:
    """Try the model of a folder, and write down what came of it."""
    folder = Path(sys.argv[1])
    answer: dict[str, Any]
    try:
        metrics, guessed = try_model(folder)
        answer = {"metrics": metrics, "guessed": guessed}
    except NotServed as reason:
        answer = {"not_served": str(reason)}
    except TrainyardError as error:
        answer = {"fault": [error.what, error.where, error.allowed, error.mend]}
    (folder / ANSWER).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
