"""The training step: one algorithm on one dataset version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prefect import task
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from blocks.docs_site import DocsSite
from tasks.cache import StepCache, code_digests, dependencies_digest
from tasks.data.task import asking_user, open_store
from tasks.errors import InvalidData, InvalidSettings, noted, raise_all
from tasks.home import home
from tasks.refs import DatasetRef, RunRef
from tasks.train.algorithms.one_call import FitStopped
from tasks.train.config import TrainConfig
from tasks.train.live import Live
from tasks.train.own_code.outcome import OwnCodeStopped
from tasks.train.progress import Progress
from tasks.train.ranks.site import on_ranks
from tasks.train.resources import host
from tasks.train.site import (
    checkpoint_folder,
    code_access,
    contents_of,
    looked_up,
    mlflow_client,
    output_place,
    start_of,
)
from tasks.train.stopping import run_stoppable
from tasks.train.tags import FLOW_RUN_TAG, OWNER_TAG
from tasks.train.work_folder import alone, drop, finished_since, note_finished

if TYPE_CHECKING:
    from tasks.data.storage.store import DatasetStore
    from tasks.train.resources import Resources
    from tasks.train.start import Start
    from tasks.train.trainer import Trainer


def _verify(result: RunRef, inputs: Mapping[str, Any]) -> None:
    """Check that the run and its model are still in MLflow."""
    from tasks.train.train import verify_run

    verify_run(mlflow_client(inputs["site"]), result)


def _content_digests(inputs: Mapping[str, Any]) -> dict[str, str]:
    """What is behind names in the settings: an alias of start weights may move, code may be edited."""
    config, site = inputs["config"], inputs["site"]
    return contents_of(config, site, start_of(config, site))


@task(
    name="train",
    task_run_name="train {config.what} on {ref.name}",
    cache_policy=StepCache(verify=_verify, identify=_content_digests),
    persist_result=True,
    result_serializer="json",
)
def train_model(ref: DatasetRef, config: TrainConfig, site: str = "local") -> RunRef:
    """Train, with progress in the Prefect UI, and record the run in MLflow.

    Killed and run again with the same inputs and code, it goes on from its last checkpoint. Cancelled,
    it keeps the best model so far. While the same training runs elsewhere on this host, it waits for
    that one, and takes its result.
    """
    from tasks.train.cross_validation import recorded
    from tasks.train.train import earlier_run, train

    log, keep = get_run_logger(), bool(config.checkpoint_folder)
    client, store = mlflow_client(site), open_store(site)
    resources, start, trainer = _checked(ref, config, store, site)
    folder = work_folder(ref, config, site, contents_of(config, site, start))
    docs = cast(DocsSite, DocsSite.load(site))
    progress = Progress(docs, f"{config.what} on {ref.name}")
    tags = {OWNER_TAG: asking_user(), **({FLOW_RUN_TAG: str(flow_run.id)} if flow_run.id else {})}
    context = TaskRunContext.get()
    with alone(folder, lambda: log.info("The same training runs already; this one waits for it.")):
        run = finished_since(folder, context.task_run.start_time if context else None)
        if run is not None:
            log.info("The same training finished meanwhile; its run %s is taken.", run.run_id)
            return run
        left = earlier_run(client, folder)
        if left is not None:
            log.info("An earlier attempt left the MLflow run %s; it is opened again.", left)

        def fit(should_stop: Callable[[], bool]) -> RunRef:
            try:
                with Live(progress) as live, on_ranks(config, site, resources, host(), log.info) as launch:
                    done = train(
                        ref,
                        config,
                        store,
                        client,
                        folder,
                        live,
                        trainer=trainer,
                        tags=tags,
                        should_stop=should_stop,
                        resources=resources,
                        start_from=start.path if start else None,
                        launch=launch,
                    )
            except (FitStopped, OwnCodeStopped):  # there is nothing to go on from
                log.info("Stopped; there was no model yet.")
                drop(folder, keep_checkpoints=keep)
                raise
            if should_stop():  # what it kept is a model of its own: training again begins anew
                log.info("Stopped; the best model so far is kept in the MLflow run %s.", done.run_id)
                drop(folder, keep_checkpoints=keep)
            return done

        try:
            run = run_stoppable(fit)
        except (InvalidSettings, InvalidData):  # another try with the same would end alike
            drop(folder, keep_checkpoints=keep)
            raise
        for name, scores in recorded(client, client.get_run(run.run_id)).items():
            log.info("Cross-validation, %s: %s", name.replace("_", " "), scores)
        if config.output and run.model_uri:
            _write_output(run, config, site)
        elif config.output:
            log.warning("Nothing is written to %s: the model cannot be served.", config.output)
        note_finished(folder, run, keep_checkpoints=keep)
        return run


def require_trainable(config: TrainConfig, site: str, ref: DatasetRef | None = None) -> None:
    """Refuse what can be told in seconds, before the training waits for its slots.

    Args:
        config: The algorithm or own code, and its hyperparameters.
        site: Which set of blocks to use.
        ref: The dataset version that it trains on; None where that is not made yet.

    Raises:
        TrainyardError: Tells all that is wrong at once.
    """
    _, _, faults = looked_up(config, site)
    if config.own_code is None and ref is not None:
        with noted(faults):
            config.resolve(ref.problem, ref.rows)
    raise_all(faults)


def _checked(
    ref: DatasetRef, config: TrainConfig, store: DatasetStore, site: str
) -> tuple[Resources, Start | None, Trainer | None]:
    """What the settings name at this site: what may be used, where to start from, the user's own code.

    Raises:
        TrainyardError: Tells all that is wrong with them at once.
    """
    trainer = None
    resources, start, faults = looked_up(config, site)
    with noted(faults):
        if config.own_code is None:
            config.resolve(ref.problem, ref.rows)
        else:
            from tasks.train.own_code.trainer import OwnCodeTrainer

            log, access = get_run_logger(), code_access(config.own_code, site)
            identity = contents_of(config, site, None)
            trainer = OwnCodeTrainer.of(
                ref, config, store, access, resources, lambda line: log.info("%s", line), identity
            )
    raise_all(faults)
    return resources, start, trainer


def _write_output(run: RunRef, config: TrainConfig, site: str) -> None:
    """Write the model to the file that was asked for."""
    from tasks.data.delivery import to_destination
    from tasks.train.mlflow_model import download_bundle, write_zip

    folder = download_bundle(mlflow_client(site), run.model_uri, home() / "work" / "models")
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    to_destination(config.output, *output_place(config, site), size, partial(write_zip, folder))
    get_run_logger().info("The model is in %s as well.", config.output)


@task(name="find run", task_run_name="find run {run_id}")
def find_run(run_id: str, site: str = "local") -> RunRef:
    """The reference to a training that finished earlier, from the id on its MLflow page.

    Raises:
        NotFound: There is no such training, or it was on somebody else's private dataset.
    """
    from tasks.train.train import find_run as find

    run = find(mlflow_client(site), run_id)
    open_store(site).open(run.dataset)
    return run


def work_folder(
    ref: DatasetRef, config: TrainConfig, site: str, content: Mapping[str, str] | None = None
) -> Path:
    """Where this very training keeps its checkpoints: the same for the same inputs and code."""
    identity = {
        "dataset": ref.digest,
        "config": config.model_dump(mode="json"),
        "content": dict(content or {}),
        "site": site,
        "code": code_digests(__name__),
        "dependencies": dependencies_digest(),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return checkpoint_folder(config, site) / digest[:24]
