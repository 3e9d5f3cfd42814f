"""Take the model that own code left: as a bundle, where a trial in a process of its own went well."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.data.read import preprocessing_of, raw_manifest, read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData
from tasks.home import home
from tasks.refs import DatasetRef
from tasks.train.algorithms.algorithm import Value
from tasks.train.algorithms.fit import FitContext, Metrics
from tasks.train.bundle import Bundle, TrainedOn
from tasks.train.own_code.adopting import require_adoptable
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.contract import Folders, plain_environment, specials
from tasks.train.own_code.datasets import class_orders
from tasks.train.own_code.outcome import OwnCodeFailed, stopped_without_model, trial_failure
from tasks.train.own_code.process import ROOT, Ending, Program, run
from tasks.train.own_code.saved_model import NotServed, Saved, find_saved
from tasks.train.own_code.stop import Stop
from tasks.train.own_code.try_model import ANSWER, BUNDLE, REQUEST, Request, write_rows

SCORED_ROWS = 2_000
"""Rows of a split that a new model is tried on; the whole of it is for the evaluation."""

LEAST_MEMORY_GIB = 1.0
"""What a trial may take however little the code was allowed: the libraries that open a model need some."""

STOPPED_S = 22.0
"""Seconds from a stop in which the code ends and its model is tried: a worker kills after 30 s, and the model
is yet to be recorded then."""

STOPPED_ROWS = 30
"""Rows of a split that the model of a stopped training is tried on, for there is little time."""


@dataclass(frozen=True)
class Taken:
    """What the code left: a bundle, or plain files with a word on why they cannot be served.

    Attributes:
        bundle: The model; None where it cannot be served.
        metrics: Its scores.
        digest: Of the bundle or the files.
        note: Why it cannot be served; empty if it can.
        guessed: What nothing says of its input, and how that was taken.
    """

    bundle: Bundle | None
    metrics: Metrics
    digest: str
    note: str = ""
    guessed: str = ""


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
    stop: Stop,
    log: Callable[[str], None] = print,
) -> Taken:
    """The model as a bundle, or as plain files with a word on why it cannot be served.

    Raises:
        OwnCodeFailed: There is no model, or the trial of it came to no end; its files are in `artifacts`.
    """
    keep_events(folders, artifacts)
    try:
        try:
            saved = find_saved(folders.model)
        except InvalidData as error:
            if ending.reason == "ended":
                raise
            raise stopped_without_model(ending, context.max_time_s, error) from error
        require_adoptable(saved, ref.problem)
        place = folders.root / "trial"
        rows = STOPPED_ROWS if stop() else SCORED_ROWS
        _lay_out(place, saved, own, hyperparameters, ref, store, context.seed, rows)
        try:
            metrics, guessed = _tried(place, saved, own, folders, context, stop, log)
        except OwnCodeFailed:
            _keep_model(folders, artifacts)  # hours of training may be in it
            raise
    except NotServed as reason:
        _keep_model(folders, artifacts)
        return Taken(None, {}, _digest(artifacts / "model"), str(reason))
    shutil.rmtree(folder, ignore_errors=True)
    shutil.move(place / BUNDLE, folder)
    bundle = Bundle.checked(folder)  # opened by the trial; after a stop there is no time for it
    return Taken(bundle, metrics, bundle.digest, guessed=guessed)


def _lay_out(
    place: Path,
    saved: Saved,
    own: OwnCode,
    hyperparameters: Mapping[str, Value],
    ref: DatasetRef,
    store: DatasetStore,
    seed: int,
    most_rows: int,
) -> None:
    """Write what the trial needs: see `try_model`."""
    place.mkdir()
    manifest = store.open(ref)
    first = "validation" if manifest.splits.get("validation") else "train"
    splits = tuple(dict.fromkeys((first, "train")))
    for split in splits:
        rows = read_raw_rows(store, ref, split, limit=most_rows)
        write_rows(place, split, rows, _labels(rows.labels, store, ref))
    request = Request(
        form=saved.form,
        path=saved.path,
        named=saved.classes,
        problem=ref.problem,
        classes=tuple(manifest.classes),
        orders=_orders(store, ref),
        label=manifest.label,
        image_input=own.image_input,
        preprocessing=preprocessing_of(store, ref),
        hyperparameters=dict(hyperparameters),
        seed=seed,
        dataset=TrainedOn(name=ref.name, version=ref.version, digest=ref.digest),
        splits=splits,
    )
    (place / REQUEST).write_text(request.model_dump_json())


def _tried(
    place: Path,
    saved: Saved,
    own: OwnCode,
    folders: Folders,
    context: FitContext,
    stop: Stop,
    log: Callable[[str], None],
) -> tuple[Metrics, str]:
    """Loss and headline metric of the splits, and what was guessed; the bundle lies in the folder then.

    Raises:
        NotServed: The model cannot be served.
        OwnCodeFailed: The trial broke a limit, was stopped, or found numbers that are not finite.
    """
    name = str(saved.path.relative_to(folders.model)) if saved.path != folders.model else "EM_MODEL_DIR"
    limits = own.limits
    if limits.memory_gib is not None:
        least = max(limits.memory_gib, LEAST_MEMORY_GIB)
        limits = limits.model_copy(update={"memory_gib": least})
    log(f"Trying the saved model ({name}) on rows of the dataset")
    threads = {"OMP_NUM_THREADS": str(context.threads)} if context.threads else {}
    ending = run(
        Program(
            command=[sys.executable, "-m", "tasks.train.own_code.try_model", str(place)],
            environment={
                **plain_environment(),
                **threads,
                "HOME": str(place),
                "TMPDIR": str(place),
                "TRAINYARD_HOME": str(home()),
                "CUDA_VISIBLE_DEVICES": "",
                "HF_HUB_OFFLINE": "1",
            },
            folder=ROOT,
            log=place / "output.log",
            scratch=place / "keeper",
            remove=[folders.root],
            written_to=[],
            limits=limits,
            max_time_s=limits.trial_time_s,
        ),
        lambda new: None,
        lambda: stop.past(STOPPED_S),
    )
    lines = (place / "output.log").read_text(errors="replace").splitlines()
    failed = trial_failure(ending, limits, name, lines)
    if failed is not None:
        raise failed
    answer = json.loads((place / ANSWER).read_text())
    if "not_served" in answer:
        raise NotServed(answer["not_served"])
    if "fault" in answer:
        what, where, allowed, mend = answer["fault"]
        raise OwnCodeFailed(what, where=where, allowed=allowed, mend=mend)
    return answer["metrics"], answer["guessed"]


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


def _keep_model(folders: Folders, artifacts: Path) -> None:
    """Copy the model's files to the artifacts."""
    shutil.copytree(folders.model, artifacts / "model", symlinks=True, ignore=_no_files)


def _no_files(folder: str, names: list[str]) -> list[str]:
    links = [name for name in names if Path(folder, name).is_symlink()]
    return links + specials(folder, names)


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder)} {content}\n".encode())
    return total.hexdigest()
