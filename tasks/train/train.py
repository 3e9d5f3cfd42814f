"""Train one algorithm on one dataset version: MLflow run in, registered-ready model out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.data.read import read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged, InvalidSettings, NotFound
from tasks.refs import DATASET_TAG, DatasetRef, RunRef
from tasks.train.algorithms.fit import FitContext, Launch, Report, never, silent
from tasks.train.built_in import BuiltIn
from tasks.train.config import TrainConfig
from tasks.train.mlflow_model import example_rows, log_bundle
from tasks.train.resources import ALL_THERE_IS, Resources
from tasks.train.tags import (
    ALGORITHM_TAG,
    BUNDLE_DIGEST_TAG,
    DATASET_DIGEST_TAG,
    DATASET_REF_TAG,
    ENDED_TAG,
    MODEL_URI_TAG,
    NOT_SERVED_TAG,
    TRAINING_FILE,
    WARNING_TAG,
)
from tasks.train.tracking import TrackedRun, can_be_resumed, tracked_run
from tasks.train.trainer import Fitted, Trainer
from tasks.train.work_folder import RUN_FILE

if TYPE_CHECKING:
    from mlflow import MlflowClient


def train(
    ref: DatasetRef,
    config: TrainConfig,
    store: DatasetStore,
    client: MlflowClient,
    work_folder: Path,
    report: Report = silent,
    *,
    trainer: Trainer | None = None,
    tags: Mapping[str, str] | None = None,
    should_stop: Callable[[], bool] = never,
    parent: str | None = None,
    resources: Resources = ALL_THERE_IS,
    start_from: Path | None = None,
    launch: Launch | None = None,
) -> RunRef:
    """Fit, and record all of it in one MLflow run.

    Called again with the same work folder after a kill, it takes up the same run from the last
    checkpoint and ends with the same model. The work folder may be deleted when this returns.

    Args:
        ref: A preprocessed dataset version; one that is divided into folds is cross-validated.
        config: What to train.
        store: Where dataset versions are.
        client: MLflow.
        work_folder: For checkpoints; belongs to this training alone, which the caller sees to.
        report: Hears each epoch, after MLflow.
        trainer: What to train; None for the algorithm of the configuration.
        tags: More tags for the run, such as the flow run's id.
        should_stop: Asked now and then; True keeps the best model so far, status aborted.
        parent: MLflow run that this one is nested below.
        resources: What the fit may use of this host.
        start_from: Weights that the network starts from; see `tasks.train.start`.
        launch: How the fit is run on ranks; None for a single process.

    Returns:
        The finished run with its logged model.

    Raises:
        InvalidSettings: The algorithm cannot take these settings; no run is made.
        InvalidData: Nothing can be learned from the data; no run is made.
        FitStopped: It was stopped before there was a model; the run's status is aborted.
    """
    trainer = trainer or BuiltIn.of(ref, config, store)
    work_folder.mkdir(parents=True, exist_ok=True)
    all_tags = {
        **config.tags,
        **(tags or {}),
        DATASET_TAG: str(ref),
        DATASET_DIGEST_TAG: ref.digest,
        DATASET_REF_TAG: ref.model_dump_json(),
        ALGORITHM_TAG: trainer.name,
    }
    with tracked_run(
        client,
        config.experiment,
        name=f"{trainer.name} on {ref.name}",
        tags=all_tags,
        resume=earlier_run(client, work_folder),
        parent=parent,
    ) as run:
        (work_folder / RUN_FILE).write_text(json.dumps({"run_id": run.run_id}))
        start = {"start_from": config.start_from} if config.start_from else {}
        usual = {"algorithm": trainer.name, "seed": config.seed, "dataset": str(ref)}
        if config.own_code is not None:  # it may record such names itself, and MLflow takes each once
            usual = {}
        ranks = {"num_ranks": config.num_ranks, "launcher": config.launcher} if launch and usual else {}
        run.params({**usual, **start, **ranks, **trainer.params})
        run.client.log_text(run.run_id, config.model_dump_json(indent=1), TRAINING_FILE)
        run.input(ref, store.open(ref).splits)
        context = FitContext(
            seed=config.seed,
            report=report,
            report_steps=run.stream,
            work_folder=work_folder,
            max_time_s=config.max_time_s,
            should_stop=should_stop,
            threads=resources.cpus,
            gpus=resources.gpus,
            start_from=start_from,
            launch=launch,
        )
        fitted = trainer.fit(run, context, work_folder / "bundle")
        model_uri = _finish(run, fitted, work_folder / "bundle", store, ref)
    return RunRef(
        run_id=run.run_id,
        experiment=config.experiment,
        model_uri=model_uri,
        digest=fitted.digest,
        algorithm=trainer.name,
        dataset=ref,
    )


def find_run(client: MlflowClient, run_id: str) -> RunRef:
    """The reference to a training that finished earlier.

    Raises:
        NotFound: There is no such run, or it left no model.
        InvalidSettings: Its model is of a form that cannot be served.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise NotFound(
            f"MLflow has no run {run_id}",
            where=str(client.tracking_uri),
            mend="copy the id from the run's page",
        ) from error
    tags = run.data.tags
    if run.info.lifecycle_stage != "active":
        raise NotFound(f"the run {run_id} was deleted", mend="restore it in MLflow, or train again")
    if MODEL_URI_TAG not in tags or DATASET_REF_TAG not in tags:
        raise NotFound(
            f"the run {run_id} has no model of ours",
            where=f"its status is {run.info.status}",
            allowed="a training that succeeded",
            mend="choose another run, or train again",
        )
    if not tags[MODEL_URI_TAG]:
        raise InvalidSettings(
            f"the model of the run {run_id} is kept, but cannot be served: {tags.get(NOT_SERVED_TAG, '')}",
            where="artifacts of the run, model/",
            mend="save the model in one of the formats that docs/own-code.md names, and train again",
        )
    return RunRef(
        run_id=run_id,
        experiment=client.get_experiment(run.info.experiment_id).name,
        model_uri=tags[MODEL_URI_TAG],
        digest=tags[BUNDLE_DIGEST_TAG],
        algorithm=tags[ALGORITHM_TAG],
        dataset=DatasetRef.model_validate_json(tags[DATASET_REF_TAG]),
    )


def verify_run(client: MlflowClient, ref: RunRef) -> None:
    """Check that a run and the files of its model are still there.

    Raises:
        NotFound: One of them is gone.
        Damaged: The run has another model than the reference.
    """
    if not ref.model_uri:
        _require_artifacts(client, ref)
        return
    if find_run(client, ref.run_id).digest != ref.digest:
        raise Damaged("the run has another model", where=ref.model_uri, mend="train again")
    listed = client.list_logged_model_artifacts(ref.model_uri.removeprefix("models:/"), "artifacts/bundle")
    if len(listed) < 2:
        raise NotFound("the model's files are gone", where=ref.model_uri, mend="train again")


def _require_artifacts(client: MlflowClient, ref: RunRef) -> None:
    """Check that the plain files of a model that cannot be served are still there."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(ref.run_id)
        there = run.info.lifecycle_stage == "active" and client.list_artifacts(ref.run_id, "model")
    except MlflowException:
        there = False
    if not there:
        raise NotFound("the model's files are gone", where=f"run {ref.run_id}", mend="train again")


def earlier_run(client: MlflowClient, work_folder: Path) -> str | None:
    """The unfinished run that an earlier attempt left in the work folder; None where there is none."""
    try:
        run_id = str(json.loads((work_folder / RUN_FILE).read_text())["run_id"])
    except (FileNotFoundError, ValueError, KeyError):
        return None  # none yet, or the process died while writing its id
    return run_id if can_be_resumed(client, run_id) else None


def _finish(run: TrackedRun, fitted: Fitted, folder: Path, store: DatasetStore, ref: DatasetRef) -> str:
    """Log the model and what is known of the fit; returns the model's URI, empty if it cannot be served."""
    fit, bundle = fitted.fit, fitted.bundle
    best = {f"best_{name}": value for name, value in fit.best.items() if name.startswith(("train", "valid"))}
    metrics = {
        **best,
        "best_epoch": fit.best_epoch,
        "epochs": len(fit.history),
        "fit_time_s": fit.fit_time_s,
    }
    tags = {BUNDLE_DIGEST_TAG: fitted.digest, ENDED_TAG: fit.ended, MODEL_URI_TAG: ""}
    if fitted.artifacts is not None:
        run.client.log_artifacts(run.run_id, str(fitted.artifacts))
    if bundle is not None:
        example = example_rows(bundle, read_raw_rows(store, ref, "train", limit=3))
        tags[MODEL_URI_TAG] = log_bundle(run.client, bundle, folder, run.run_id, example)
        metrics["parameters"] = bundle.description.model.parameters
        metrics["bundle_size_bytes"] = bundle.description.model.size_bytes
    else:
        tags[NOT_SERVED_TAG] = fitted.note
    if fitted.warning:
        tags[WARNING_TAG] = fitted.warning
    run.params(fitted.params)
    run.metrics(metrics)
    run.tag(tags)
    run.ended_as = "aborted" if fit.ended == "stopped" else "succeeded"
    return tags[MODEL_URI_TAG]
