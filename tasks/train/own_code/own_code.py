"""Train by code of the user's own: checked before a run exists, run by the keeper, its model adopted."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, TrainyardError, noted, raise_all
from tasks.refs import DatasetRef
from tasks.train.algorithms.algorithm import Value
from tasks.train.algorithms.fit import Fit, FitContext, Metrics
from tasks.train.bundle import Bundle
from tasks.train.metric_names import metric_name
from tasks.train.own_code.config import OwnCode, require_hyperparameters
from tasks.train.own_code.contract import Folders, arguments, environment, specials
from tasks.train.own_code.datasets import TEST, write_dataset
from tasks.train.own_code.environment import environment_for, missing_in
from tasks.train.own_code.following import Follower
from tasks.train.own_code.logged import LoggedReader
from tasks.train.own_code.on_ranks import run_on_ranks
from tasks.train.own_code.opened import fitting, opened_metrics
from tasks.train.own_code.outcome import OwnCodeFailed, failure
from tasks.train.own_code.process import Ending, Program, remove, run
from tasks.train.own_code.script import missing, read_script, refuse_missing
from tasks.train.own_code.source import SourceAccess, named_datasets, opened, require_unchanged
from tasks.train.own_code.stop import Stop
from tasks.train.own_code.taking import keep_events, take_model

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
        guessed: What nothing says of its input, and how that was taken; empty if there is nothing.
        scores: Of `metrics`, those that are not recorded yet: the model's, where the code reported none so.
    """

    bundle: Bundle | None
    metrics: Metrics
    ended: str
    fit_time_s: float
    artifacts: Path
    digest: str
    note: str
    guessed: str
    scores: Metrics

    @property
    def fit(self) -> Fit:
        """As of a built-in algorithm, with one epoch; the model is in the bundle alone."""
        model: Any = None
        return Fit(model, (self.metrics,), 1, self.ended, self.fit_time_s)


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
    with noted(faults):
        require_hyperparameters(hyperparameters)
    with noted(faults):
        store.open(ref)
    with noted(faults):
        named_datasets(own, store)
    with noted(faults):
        check_script(own, access)
    raise_all(faults)


def check_script(own: OwnCode, access: SourceAccess) -> None:
    """Refuse a source that is not there, and a script that cannot run.

    Raises:
        TrainyardError: No such source or entry point is there, or it is not Python, or an import is missing.
    """
    with opened(own, access) as code:
        script = read_script(code, own.entry_point)
    if script.requirements is None:
        refuse_missing(missing(script.imports), has_requirements=False)


def fit_own_code(
    own: OwnCode,
    hyperparameters: Mapping[str, Value],
    ref: DatasetRef,
    store: DatasetStore,
    access: SourceAccess,
    context: FitContext,
    folder: Path,
    *,
    identity: Mapping[str, str] | None = None,
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
        identity: What `identify` gave when the training was asked for; None asks for nothing of the kind.
        mlflow: Variables by which the code's own MLflow calls find the run.
        log: Hears the output, at a bounded rate, and what happens around it.

    Raises:
        OwnCodeFailed: The code failed, broke a limit, or left no model; the output is in `artifacts`.
        InvalidData: The source or its requirements.txt cannot be used, or is another than it was.
        Unavailable: The installation was stopped or took too long.
    """
    stop = Stop(context.should_stop)
    context = replace(context, should_stop=stop)
    assert context.work_folder is not None, "own code needs a work folder"
    place = context.work_folder / "own_code"
    folders = Folders(place / "scratch", place / "checkpoints")
    artifacts = artifacts_of(context.work_folder)
    for left in (folders.root, artifacts):  # of an attempt that was killed with its keeper
        remove(left)
    resumed = folders.checkpoints.is_dir() and any(folders.checkpoints.iterdir())
    folders.make()
    (artifacts / "own_code").mkdir(parents=True)
    output = artifacts / "own_code" / "output.log"
    try:
        last_step = 1

        def show(step: int, values: Metrics) -> None:
            nonlocal last_step
            last_step = max(last_step, step)
            context.report(step, 0, values)

        def report(step: int, values: Metrics) -> None:
            context.report_steps(step, values)
            show(step, values)

        with LoggedReader(mlflow or {}) as logged:
            follower = Follower(own, folders.tensorboard, log, report, logged.new, show)
            ending = _run(
                own, hyperparameters, ref, store, access, context, folders, output, follower, identity or {},
                mlflow or {}, resumed, log,
            )  # fmt: skip
        follower.finish()
        failed = failure(ending, own.limits, list(follower.lines))
        if failed is not None:
            raise failed
        result = take_model(
            own, hyperparameters, ref, store, context, folders, folder, ending, artifacts, stop, log
        )
        metrics = follower.last | result.metrics
        if ending.reason == "ended":  # one that was asked to end may not have come to its metrics
            _require_metrics(own, metrics, mlflow or {})
        if result.note:
            log(f"The model is kept with the run, but cannot be served: {result.note}")
        if result.guessed:
            log(f"Of the saved model: {result.guessed}")
        log(
            f"The code ended after {ending.wall_s:.1f} s; it used up to {ending.peak_bytes / 2**20:,.0f} MiB "
            f"in {ending.peak_processes} processes"
            + ("" if ending.separate else "; it had no namespaces of its own, see docs/own-code.md")
        )
        context.report(last_step, 0, result.metrics or metrics)
        return OwnCodeFit(
            bundle=result.bundle,
            metrics=metrics,
            ended=_ENDED[ending.reason],
            fit_time_s=ending.wall_s,
            artifacts=artifacts,
            digest=result.digest,
            note=result.note,
            guessed=result.guessed,
            scores={name: value for name, value in result.metrics.items() if name not in follower.last},
        )
    except InvalidData as error:
        kept = error if isinstance(error, OwnCodeFailed) else _as_failure(error)
        kept.artifacts = artifacts
        raise kept from error.__cause__
    finally:
        with suppress(OSError):
            keep_events(folders, artifacts)
        remove(folders.root)


def artifacts_of(work_folder: Path) -> Path:
    """Where the output of the code is and what else it left for the run, however it ended."""
    return work_folder / "own_code" / "artifacts"


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
    identity: Mapping[str, str],
    mlflow: Mapping[str, str],
    resumed: bool,
    log: Log,
) -> Ending:
    """Lay out files, make the environment, run the code."""
    began = time.monotonic()
    with opened(own, access) as code:
        script = read_script(code, own.entry_point)
        code.copy_to(folders.source)
    datasets = _lay_out_datasets(own, ref, store, folders)
    if identity:
        require_unchanged(own, store, access, identity)
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
        program = Program(
                command=[
                    *(str(python), *script.command(folders.source)),
                    *(*own.arguments, *arguments(hyperparameters)),
                ],
                environment=environment(
                    own, hyperparameters, folders, datasets, own.entry_point, python, context.seed,
                    context.threads, context.gpus, start, fitting(mlflow, folders.source, own.variables),
                ),
                folder=folders.source,
                log=output,
                scratch=folders.root / "keeper",
                remove=[folders.root],
                written_to=[folders.root, folders.checkpoints],
                limits=own.limits,
                max_time_s=context.max_time_s,
            )  # fmt: skip
        if context.launch is not None:
            return run_on_ranks(program, follower, context.should_stop, context.launch)
        return run(program, follower, context.should_stop)


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
        shutil.copytree(folders.checkpoints, folders.start, symlinks=True, ignore=specials)
    elif context.start_from is not None and context.start_from.is_dir():
        shutil.copytree(context.start_from, folders.start, ignore=specials)
    elif context.start_from is not None:
        folders.start.mkdir()
        shutil.copy(context.start_from, folders.start)
    else:
        return ""
    return str(folders.start)


def _require_metrics(own: OwnCode, metrics: Metrics, mlflow: Mapping[str, str]) -> None:
    """Refuse a run that left out a metric that it was to report."""
    named = [*(name for name in own.metrics if name != "*"), *own.required_metrics]
    wanted = list(dict.fromkeys(metric_name(name) for name in named))
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

    client, run_id = MlflowClient(mlflow["MLFLOW_TRACKING_URI"]), mlflow["MLFLOW_RUN_ID"]
    opened = {name: metric.value for name, metric in opened_metrics(client, run_id).items()}
    recorded = opened | client.get_run(run_id).data.metrics
    return {name: value for name, value in recorded.items() if math.isfinite(value)}


def _as_failure(error: InvalidData) -> OwnCodeFailed:
    return OwnCodeFailed(error.what, where=error.where, allowed=error.allowed, mend=error.mend)
