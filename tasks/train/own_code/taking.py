"""Take the model that own code left: adopt it, write the bundle, and score it as an endpoint would answer."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.read import preprocessing_of, raw_manifest, read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidRequest
from tasks.refs import DatasetRef
from tasks.train.algorithms.algorithm import FitContext, Metrics, Value
from tasks.train.bundle import Bundle, TrainedOn
from tasks.train.own_code.adopting import Adopted, Trial, adopt
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.contract import Folders
from tasks.train.own_code.datasets import class_orders
from tasks.train.own_code.outcome import OwnCodeFailed, stopped_without_model
from tasks.train.own_code.process import Ending
from tasks.train.own_code.saved_model import NotServed, Saved, find_saved
from tasks.train.scores import split_scores

NAME = "own_code"
"""What stands in records where a built-in algorithm has its name."""

SCORED_ROWS = 2_000
"""Rows of a split that a new model is tried on; the whole of it is for the evaluation."""


@dataclass(frozen=True)
class Taken:
    """What the code left: a bundle, or plain files with a word on why they cannot be served."""

    bundle: Bundle | None
    metrics: Metrics
    digest: str
    note: str = ""
    model: Any = None


def take_model(
    own: OwnCode,
    hyperparameters: Mapping[str, Value],
    ref: DatasetRef,
    store: DatasetStore,
    context: FitContext,
    folders: Folders,
    folder: Path,
    ending: Ending,
    artifacts: Path,
) -> Taken:
    """The model as a bundle, or as plain files with a word on why it cannot be served."""
    keep_events(folders, artifacts)
    try:
        try:
            saved = find_saved(folders.model)
        except InvalidData as error:
            if ending.reason == "ended":
                raise
            raise stopped_without_model(ending, context.max_time_s, error) from error
        bundle, metrics = _bundle(saved, own, hyperparameters, ref, store, context, folder)
    except NotServed as reason:
        shutil.copytree(folders.model, artifacts / "model", symlinks=True, ignore=_links)
        return Taken(None, {}, _digest(artifacts / "model"), str(reason))
    return Taken(bundle, metrics, bundle.digest, model=bundle.model)


def _bundle(
    saved: Saved,
    own: OwnCode,
    hyperparameters: Mapping[str, Value],
    ref: DatasetRef,
    store: DatasetStore,
    context: FitContext,
    folder: Path,
) -> tuple[Bundle, Metrics]:
    """Adopt the model, write the bundle, and score it as an endpoint would answer."""
    manifest = store.open(ref)
    preprocessing = preprocessing_of(store, ref)
    trial_split = "validation" if manifest.splits.get("validation") else "train"
    raw = {}
    for split in dict.fromkeys((trial_split, "train")):
        raw[split] = read_raw_rows(store, ref, split, limit=SCORED_ROWS)
    rows = raw[trial_split]
    adopted: Adopted = adopt(
        saved,
        Trial(
            problem=ref.problem,
            classes=tuple(manifest.classes),
            orders=_orders(store, ref),
            images=None if rows.images is None else preprocessing.images(rows.images),
            table=None if rows.table is None else preprocessing.table(rows.table),
            labels=_labels(rows.labels, store, ref),
            image_input=own.image_input,
        ),
    )
    shutil.rmtree(folder, ignore_errors=True)
    bundle = Bundle.write(
        folder,
        model=adopted.model,
        preprocessing=preprocessing,
        problem=ref.problem,
        algorithm=NAME,
        hyperparameters=dict(hyperparameters),
        seed=context.seed,
        classes=manifest.classes,
        label=manifest.label,
        inputs=adopted.inputs,
        dataset=TrainedOn(name=ref.name, version=ref.version, digest=ref.digest),
    )
    bundle = Bundle.load(folder)  # what is scored here is what will be served
    metrics: Metrics = {}
    for split, given in raw.items():
        try:
            if given.images is not None:
                predicted = bundle.predict_images(given.images)
            else:
                assert given.table is not None
                predicted = bundle.predict_table(given.table)
        except InvalidRequest as error:  # of a row that it was not tried on
            raise NotServed(f"it does not answer rows of the split {split}: {error.what}") from error
        if not np.isfinite(predicted).all():
            raise OwnCodeFailed(
                "the model gives NaN or infinity for rows of the dataset",
                where=f"split {split}",
                mend="look for a loss that is NaN, and for weights that grow without end",
            )
        labels = _labels(given.labels, store, ref)
        metrics |= split_scores(split, ref.problem, labels, predicted)
    return bundle, metrics


def _labels(labels: np.ndarray, store: DatasetStore, ref: DatasetRef) -> np.ndarray:
    """Raw rows' labels in the numbers of the version's own classes."""
    manifest = store.open(ref)
    raw = raw_manifest(store, manifest)
    if not manifest.classes or raw.classes == manifest.classes:
        return labels
    place = {name: index for index, name in enumerate(manifest.classes)}
    return np.array([place[raw.classes[label]] for label in labels], dtype=np.int64)


def _orders(store: DatasetStore, ref: DatasetRef) -> tuple[tuple[int, ...], ...]:
    """How a script may have numbered the classes, the likeliest first.

    Scripts sort the names of folders or labels (ImageFolder, LabelEncoder, np.unique); those that read
    numbers, or the file of label names, have the dataset's own order.
    """
    integers, classes = class_orders(store, ref)
    own = tuple(range(len(classes)))
    by_name = tuple(sorted(own, key=lambda place: classes[place]))
    both = (own, by_name) if integers else (by_name, own)
    return tuple(dict.fromkeys(both))


def keep_events(folders: Folders, artifacts: Path) -> None:
    """Copy the event files to the artifacts."""
    events = [path for path in folders.tensorboard.rglob("*tfevents*") if path.is_file()]
    for path in events:
        target = artifacts / "tensorboard" / path.relative_to(folders.tensorboard)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink() and not target.exists():
            shutil.copyfile(path, target)


def _links(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder, name).is_symlink()]


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder)} {content}\n".encode())
    return total.hexdigest()
