"""Train by code of the user's own: checked before a run exists, run by the keeper, its model adopted."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.read import preprocessing_of, raw_manifest, read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings, TrainyardError
from tasks.refs import DatasetRef
from tasks.train.algorithms.algorithm import Fit, FitContext, Metrics, Value
from tasks.train.bundle import Bundle, TrainedOn
from tasks.train.own_code.adopting import Adopted, Trial, adopt
from tasks.train.own_code.config import OwnCode, require_hyperparameters
from tasks.train.own_code.contract import Folders, arguments, environment
from tasks.train.own_code.datasets import TEST, class_orders, write_dataset
from tasks.train.own_code.environment import environment_for, missing_in
from tasks.train.own_code.following import Follower
from tasks.train.own_code.outcome import OwnCodeFailed, failure, stopped_without_model
from tasks.train.own_code.process import Ending, Program, remove, run
from tasks.train.own_code.saved_model import NotServed, Saved, find_saved
from tasks.train.own_code.script import missing, read_script, refuse_missing
from tasks.train.own_code.source import SourceAccess, named_datasets, opened
from tasks.train.scores import split_scores

NAME = "own_code"
"""What stands in records where a built-in algorithm has its name."""

SCORED_ROWS = 2_000
"""Rows of a split that a new model is tried on; the whole of it is for the evaluation."""

_ENDED = {"ended": "finished", "stopped": "stopped", "time": "time limit"}

Log = Callable[[str], None]


@dataclass(frozen=True)
class OwnCodeFit:
    """What a run of own code left.

    Attributes:
        bundle: The model; None where it is of a form that cannot be served.
        metrics: The last values of what the code reported, and the model's loss and accuracy (or RMSE).
        ended: `finished`, `stopped` or `time limit`.
        fit_time_s: Seconds that the code ran.
        artifacts: Folder to log as it is: own_code/output.log, tensorboard/, and model/ if not served.
        digest: SHA-256, hex, of the bundle, or of the files in model/.
        note: Why the model cannot be served; empty if it can.
        scores: Of `metrics`, those that are not recorded yet: the model's, where the code reported none so.
        model: The fitted model in the bundle.
    """

    bundle: Bundle | None
    metrics: Metrics
    ended: str
    fit_time_s: float
    artifacts: Path
    digest: str
    note: str
    scores: Metrics
    model: Any = None

    @property
    def fit(self) -> Fit:
        """As of a built-in algorithm, with one epoch."""
        return Fit(self.model, (self.metrics,), 1, self.ended, self.fit_time_s)


def check_own_code(
    own: OwnCode,
    hyperparameters: Mapping[str, Value],
    ref: DatasetRef,
    store: DatasetStore,
    access: SourceAccess,
) -> None:
    """Refuse what can be known to fail before anything is started: all of it at once.

    Raises:
        TrainyardError: Of the kind of the one fault; `InvalidSettings` with all of them if they are more.
    """
    faults: list[TrainyardError] = []

    def attempt(act: Callable[[], object]) -> None:
        try:
            act()
        except TrainyardError as error:
            faults.append(error)

    def check_source() -> None:
        with opened(own, access) as code:
            script = read_script(code, own.entry_point)
        if script.requirements is None:
            refuse_missing(missing(script.imports), has_requirements=False)

    attempt(lambda: require_hyperparameters(hyperparameters))
    attempt(lambda: store.open(ref))
    attempt(lambda: named_datasets(own, store))
    attempt(check_source)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise InvalidSettings(
            "; ".join(error.what for error in faults),
            where="; ".join(error.where for error in faults if error.where),
            allowed="; ".join(error.allowed for error in faults if error.allowed),
            mend="; ".join(dict.fromkeys(error.mend for error in faults if error.mend)),
        )


def fit_own_code(
    own: OwnCode,
    hyperparameters: Mapping[str, Value],
    ref: DatasetRef,
    store: DatasetStore,
    access: SourceAccess,
    context: FitContext,
    folder: Path,
    *,
    mlflow: Mapping[str, str] | None = None,
    log: Log = print,
) -> OwnCodeFit:
    """Run the code on a dataset version, and take its model.

    Args:
        own: The settings; checked by `check_own_code`.
        hyperparameters: Passed as `--key value` and as variables.
        ref: The main dataset; a raw or a preprocessed version.
        store: Where dataset versions are.
        access: What the source may be read from.
        context: Seed, limits, reports; its work folder holds checkpoints, and all files while it runs.
        folder: Where the bundle is written, replacing an earlier one.
        mlflow: Variables by which the code's own MLflow calls find the run.
        log: Hears the output, at a bounded rate, and what happens around it.

    Raises:
        OwnCodeFailed: The code failed, broke a limit, or left no model; the output is in `artifacts`.
        InvalidData: The source or its requirements.txt cannot be used.
        Unavailable: The installation was stopped or took too long.
    """
    assert context.work_folder is not None, "own code needs a work folder"
    place = context.work_folder / "own_code"
    folders = Folders(place / "scratch", place / "checkpoints")
    artifacts = place / "artifacts"
    for left in (folders.root, artifacts):  # of an attempt that was killed with its keeper
        remove(left)
    resumed = folders.checkpoints.is_dir() and any(folders.checkpoints.iterdir())
    folders.make()
    (artifacts / "own_code").mkdir(parents=True)
    output = artifacts / "own_code" / "output.log"
    try:
        follower = Follower(own, folders.tensorboard, log, context.report_steps)
        ending = _run(
            own, hyperparameters, ref, store, access, context, folders, output, follower, mlflow or {},
            resumed, log,
        )  # fmt: skip
        follower.finish()
        failed = failure(ending, own, context.max_time_s, list(follower.lines))
        if failed is not None:
            raise failed
        result = _take_model(own, hyperparameters, ref, store, context, folders, folder, ending, artifacts)
        metrics = follower.last | result.metrics
        _require_metrics(own, metrics, mlflow or {})
        if result.note:
            log(f"The model is kept with the run, but cannot be served: {result.note}")
        log(
            f"The code ended after {ending.wall_s:.1f} s; it used up to {ending.peak_bytes / 2**20:,.0f} MiB "
            f"in {ending.peak_processes} processes"
        )
        context.report(1, 1, metrics)
        return OwnCodeFit(
            bundle=result.bundle,
            metrics=metrics,
            ended=_ENDED[ending.reason],
            fit_time_s=ending.wall_s,
            artifacts=artifacts,
            digest=result.digest,
            note=result.note,
            scores={name: value for name, value in result.metrics.items() if name not in follower.last},
            model=result.model,
        )
    except InvalidData as error:
        kept = error if isinstance(error, OwnCodeFailed) else _as_failure(error)
        kept.artifacts = artifacts
        _keep_events(folders, artifacts)
        raise kept from error.__cause__
    finally:
        remove(folders.root)


def _run(
    own: OwnCode,
    hyperparameters: Mapping[str, Value],
    ref: DatasetRef,
    store: DatasetStore,
    access: SourceAccess,
    context: FitContext,
    folders: Folders,
    output: Path,
    follower: Follower,
    mlflow: Mapping[str, str],
    resumed: bool,
    log: Log,
) -> Ending:
    """Lay out files, make the environment, run the code."""
    began = time.monotonic()
    with opened(own, access) as code:
        script = read_script(code, own.entry_point)
        code.copy_to(folders.source)
    if script.text is not None:
        (folders.source / script.path).write_text(script.text)
    datasets = _lay_out_datasets(own, ref, store, folders)
    start = _start(context, folders, resumed, log)
    with ExitStack() as stack:
        python = stack.enter_context(
            environment_for(
                own, script.requirements, folders.source, folders.temporary, log, context.should_stop
            )
        )
        if script.requirements is not None:
            refuse_missing(missing_in(python, script.imports), has_requirements=True)
        log(f"Starting {own.entry_point}, {time.monotonic() - began:.1f} s after its files were asked for")
        return run(
            Program(
                command=[str(python), str(folders.source / script.path), *arguments(hyperparameters)],
                environment=environment(
                    own, hyperparameters, folders, datasets, own.entry_point, python, context.seed,
                    context.threads, start, mlflow,
                ),
                folder=folders.source,
                log=output,
                scratch=folders.root / "keeper",
                remove=[folders.root],
                written_to=[folders.root, folders.checkpoints],
                limits=own.limits,
                max_time_s=context.max_time_s,
            ),
            follower,
            context.should_stop,
        )  # fmt: skip


def _lay_out_datasets(
    own: OwnCode, ref: DatasetRef, store: DatasetStore, folders: Folders
) -> dict[str, Path]:
    """Write the datasets as folders; returns them by name, the main one first."""
    main = folders.datasets / own.dataset_name
    splits = None if own.give_test_split else [s for s in store.open(ref).splits if s != TEST]
    write_dataset(store, ref, main, splits)
    result = {own.dataset_name: main}
    for name, named in named_datasets(own, store).items():
        result[name] = folders.datasets / name
        write_dataset(store, named, result[name])
    return result


def _start(context: FitContext, folders: Folders, resumed: bool, log: Log) -> str:
    """The folder for `EM_CHECKPOINT_INPUT_DIR`; empty for none.

    An attempt that was killed left checkpoints: they go before those that the training was to start from.
    """
    if resumed:
        log("An earlier attempt left checkpoints; they are given as EM_CHECKPOINT_INPUT_DIR")
        shutil.copytree(folders.checkpoints, folders.start, symlinks=True)
    elif context.start_from is not None and context.start_from.is_dir():
        shutil.copytree(context.start_from, folders.start)
    elif context.start_from is not None:
        folders.start.mkdir()
        shutil.copy(context.start_from, folders.start)
    else:
        return ""
    return str(folders.start)


@dataclass(frozen=True)
class _Taken:
    bundle: Bundle | None
    metrics: Metrics
    digest: str
    note: str = ""
    model: Any = None


def _take_model(
    own: OwnCode,
    hyperparameters: Mapping[str, Value],
    ref: DatasetRef,
    store: DatasetStore,
    context: FitContext,
    folders: Folders,
    folder: Path,
    ending: Ending,
    artifacts: Path,
) -> _Taken:
    """The model as a bundle, or as plain files with a word on why it cannot be served."""
    _keep_events(folders, artifacts)
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
        return _Taken(None, {}, _digest(artifacts / "model"), str(reason))
    return _Taken(bundle, metrics, bundle.digest, model=bundle.model)


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
        if given.images is not None:
            predicted = bundle.predict_images(given.images)
        else:
            assert given.table is not None
            predicted = bundle.predict_table(given.table)
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


def _require_metrics(own: OwnCode, metrics: Metrics, mlflow: Mapping[str, str]) -> None:
    """Refuse a run that left out a metric that it was to report."""
    wanted = [name for name in own.metrics if name != "*"]
    wanted += [name for name in own.required_metrics if name not in wanted]
    lacking = [name for name in wanted if name not in metrics]
    if lacking and mlflow.get("MLFLOW_RUN_ID"):
        there = _mlflow_metrics(mlflow)
        lacking = [name for name in lacking if name not in there]
        metrics |= {name: there[name] for name in wanted if name in there}
    if lacking:
        raise OwnCodeFailed(
            f"the code never reported the metric {', '.join(lacking)}",
            where="output, TensorBoard events and MLflow",
            allowed=f"it reported {', '.join(sorted(metrics)[:20])}" if metrics else "",
            mend="print the metric as its sample line has it, or log it; or leave it out of the settings",
        )


def _mlflow_metrics(mlflow: Mapping[str, str]) -> Metrics:
    from mlflow import MlflowClient

    run = MlflowClient(mlflow["MLFLOW_TRACKING_URI"]).get_run(mlflow["MLFLOW_RUN_ID"])
    return {name: value for name, value in run.data.metrics.items() if math.isfinite(value)}


def _keep_events(folders: Folders, artifacts: Path) -> None:
    """Copy the event files to the artifacts."""
    events = [path for path in folders.tensorboard.rglob("*tfevents*") if path.is_file()]
    for path in events:
        target = artifacts / "tensorboard" / path.relative_to(folders.tensorboard)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink() and not target.exists():
            shutil.copyfile(path, target)


def _links(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder, name).is_symlink()]


def _as_failure(error: InvalidData) -> OwnCodeFailed:
    return OwnCodeFailed(error.what, where=error.where, allowed=error.allowed, mend=error.mend)


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder)} {content}\n".encode())
    return total.hexdigest()
