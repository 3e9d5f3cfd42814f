"""The training step: one algorithm on one dataset version."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from filelock import FileLock, Timeout
from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from blocks.mlflow_server import MlflowServer
from tasks.cache import StepCache, code_digests, dependencies_digest
from tasks.data.task import open_store
from tasks.home import home
from tasks.refs import DatasetRef, RunRef
from tasks.train.config import TrainConfig
from tasks.train.tags import FLOW_RUN_TAG

if TYPE_CHECKING:
    from tasks.train.algorithms.algorithm import Metrics

PROGRESS_INTERVAL_S = 1.0
FINISHED_KEPT_S = 24 * 3600


def _verify(result: RunRef, inputs: Mapping[str, Any]) -> None:
    """Check that the run and its model are still in MLflow."""
    from tasks.train.train import verify_run

    verify_run(cast(MlflowServer, MlflowServer.load(inputs["site"])).client(), result)


@task(
    name="train",
    task_run_name="train {config.algorithm} on {ref.name}",
    cache_policy=StepCache(verify=_verify),
    persist_result=True,
    result_serializer="json",
)
def train_model(ref: DatasetRef, config: TrainConfig, site: str = "local") -> RunRef:
    """Train, with progress in the Prefect UI, and record the run in MLflow.

    Killed and run again with the same inputs and code, it goes on from its last checkpoint. While the
    same training runs elsewhere on this host, it waits for that one, and takes its result.
    """
    from tasks.train.train import earlier_run, train

    client = cast(MlflowServer, MlflowServer.load(site)).client()
    folder = work_folder(ref, config, site)
    with _alone(folder):
        run = _finished_meanwhile(folder)
        if run is not None:
            get_run_logger().info("The same training finished meanwhile; its run %s is taken.", run.run_id)
            return run
        left = earlier_run(client, folder)
        if left is not None:
            get_run_logger().info("An earlier attempt left the MLflow run %s; it is opened again.", left)
        run = train(
            ref,
            config,
            open_store(site),
            client,
            folder,
            Progress(),
            tags={FLOW_RUN_TAG: str(flow_run.id)} if flow_run.id else None,
        )
        _note_finished(folder, run)
        return run


@task(name="find run", task_run_name="find run {run_id}")
def find_run(run_id: str, site: str = "local") -> RunRef:
    """The reference to a training that finished earlier, from the id on its MLflow page.

    Raises:
        NotFound: There is no such training, or it was on somebody else's private dataset.
    """
    from tasks.train.train import find_run as find

    run = find(cast(MlflowServer, MlflowServer.load(site)).client(), run_id)
    open_store(site).open(run.dataset)
    return run


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the work folder, so that no equal training writes there; the lock ends with the process."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        get_run_logger().info("The same training runs already; this one waits for it.")
        lock.acquire(poll_interval=0.5)
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # one who waits for it makes it anew
        lock.release()


def _note_finished(folder: Path, run: RunRef) -> None:
    """Put the result in place of the work folder, for those that wait, and drop results that none awaits."""
    path = folder.with_suffix(".json")
    aside = folder.with_suffix(".partial")
    aside.write_text(run.model_dump_json())
    aside.rename(path)
    shutil.rmtree(folder, ignore_errors=True)
    for old in folder.parent.glob("*.json"):
        if time.time() - old.stat().st_mtime > FINISHED_KEPT_S:
            old.unlink(missing_ok=True)


def _finished_meanwhile(folder: Path) -> RunRef | None:
    """The result of an equal training that ended after this step had looked for a stored one.

    An older result does not count: the step cache has refused it, or was told not to look.
    """
    path, context = folder.with_suffix(".json"), TaskRunContext.get()
    started = context.task_run.start_time if context else None
    if started is None or not path.exists() or path.stat().st_mtime < started.timestamp():
        return None
    return RunRef.model_validate_json(path.read_bytes())


class Progress:
    """Shows a fit in the Prefect UI: a progress bar, and a log line an epoch, at most one a second."""

    def __init__(self) -> None:
        self.log = get_run_logger()
        self.shown_at = 0.0
        self.artifact = cast(
            UUID,
            create_progress_artifact(
                progress=0.0, key="training-progress", description="Training: reading the data"
            ),
        )

    def __call__(self, epoch: int, epochs: int, metrics: Metrics) -> None:
        """Hear of a finished epoch: see `tasks.train.algorithms.algorithm.Report`."""
        if epoch < epochs and time.monotonic() - self.shown_at < PROGRESS_INTERVAL_S:
            return
        self.shown_at = time.monotonic()
        scores = {k: v for k, v in metrics.items() if k.startswith(("train_", "validation_"))}
        line = f"Epoch {epoch} of {epochs}: " + ", ".join(
            f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items()
        )
        self.log.info(line)
        update_progress_artifact(self.artifact, progress=100.0 * epoch / epochs, description=line)


def work_folder(ref: DatasetRef, config: TrainConfig, site: str) -> Path:
    """Where this very training keeps its checkpoints: the same for the same inputs and code."""
    identity = {
        "dataset": ref.digest,
        "config": config.model_dump(mode="json"),
        "site": site,
        "code": code_digests(__name__),
        "dependencies": dependencies_digest(),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return home() / "work" / "train" / digest[:24]
