"""The training step: one algorithm on one dataset version."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

from prefect import task
from prefect.artifacts import create_image_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from blocks.docs_site import DocsSite
from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from blocks.resource_presets import ResourcePresets, usual_presets
from tasks.cache import StepCache, code_digests, dependencies_digest
from tasks.data.task import asking_user, closed_folders, open_store
from tasks.errors import InvalidData, InvalidSettings, TrainyardError, noted, raise_all
from tasks.home import home
from tasks.refs import DatasetRef, RunRef
from tasks.train.algorithms.one_call import FitStopped
from tasks.train.config import TrainConfig
from tasks.train.live import Live, Standing
from tasks.train.live_curves import live_curves
from tasks.train.resources import ALL_THERE_IS, Resources, choose
from tasks.train.stopping import run_stoppable
from tasks.train.tags import FLOW_RUN_TAG, OWNER_TAG
from tasks.train.work_folder import alone, drop, finished_since, note_finished

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tasks.data.storage.store import DatasetStore
    from tasks.train.own_code.config import OwnCode
    from tasks.train.own_code.source import SourceAccess
    from tasks.train.start import Start
    from tasks.train.trainer import Trainer

_MOST_SAID = 6
"""Metrics of own code in the line of a progress bar."""

CURVES_INTERVAL_S = 5.0
"""Between two pictures of the curves while a fit runs; the first comes after as long."""


def _verify(result: RunRef, inputs: Mapping[str, Any]) -> None:
    """Check that the run and its model are still in MLflow."""
    from tasks.train.train import verify_run

    verify_run(_client(inputs["site"]), result)


def _content_digests(inputs: Mapping[str, Any]) -> dict[str, str]:
    """What is behind names in the settings: an alias of start weights may move, code may be edited."""
    config, site = inputs["config"], inputs["site"]
    return _contents(config, site, _start(config, site))


def _contents(config: TrainConfig, site: str, start: Start | None) -> dict[str, str]:
    found = {"start weights": start.digest} if start else {}
    if config.own_code is not None:
        context = TaskRunContext.get()
        found |= _identified(
            config.own_code.model_dump_json(), site, context.task_run.id if context else uuid4()
        )
    return found


@task(
    name="train",
    task_run_name="train {config.algorithm} on {ref.name}",
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
    from tasks.train.train import earlier_run, train

    log, keep = get_run_logger(), bool(config.checkpoint_folder)
    client, store = _client(site), open_store(site)
    resources, start, trainer = _checked(ref, config, store, site)
    folder = work_folder(ref, config, site, _contents(config, site, start))
    progress = Progress(site, f"{config.algorithm} on {ref.name}")
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
                with Live(progress) as live:
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
                    )
            except FitStopped:  # there is nothing to go on from
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
        if config.output and run.model_uri:
            _write_output(run, config, site)
        elif config.output:
            log.warning("Nothing is written to %s: the model cannot be served.", config.output)
        note_finished(folder, run, keep_checkpoints=keep)
        return run


def _checked(
    ref: DatasetRef, config: TrainConfig, store: DatasetStore, site: str
) -> tuple[Resources, Start | None, Trainer | None]:
    """What the settings name at this site: what may be used, where to start from, the user's own code.

    Raises:
        TrainyardError: Tells all that is wrong with them at once.
    """
    from tasks.data.delivery import require_new

    resources, start, trainer = ALL_THERE_IS, None, None
    faults: list[TrainyardError] = []
    with noted(faults):
        resources = _resources(config, site)
    with noted(faults):
        start = _start(config, site)
    with noted(faults):
        _checkpoint_folder(config, site)
    if config.output:
        with noted(faults):
            require_new(config.output, *_output_place(config, site))
    with noted(faults):
        if config.own_code is None:
            config.resolve(ref.problem, ref.rows)
        else:
            from tasks.train.own_code.trainer import OwnCodeTrainer

            log, access = get_run_logger(), _code_access(config.own_code, site)
            identity = _contents(config, site, None)
            trainer = OwnCodeTrainer.of(
                ref, config, store, access, resources, lambda line: log.info("%s", line), identity
            )
    raise_all(faults)
    return resources, start, trainer


def _client(site: str) -> MlflowClient:
    return cast(MlflowServer, MlflowServer.load(site)).client()


def _resources(config: TrainConfig, site: str) -> Resources:
    """The preset's grant, if this host has it."""
    try:
        presets = cast(ResourcePresets, ResourcePresets.load(site)).presets
    except ValueError:  # a site without presets of its own has the usual ones
        presets = usual_presets()
    return choose(
        config.resources, {name: Resources(**preset.model_dump()) for name, preset in presets.items()}
    )


def _start(config: TrainConfig, site: str) -> Start | None:
    """The weights to start from, looked up once a task run: an alias may move from its key to its fit."""
    if not config.start_from:
        return None
    context = TaskRunContext.get()
    asking = context.task_run.id if context else uuid4()
    return _looked_up(config.start_from, site, config.own_code is not None, asking)


@lru_cache(maxsize=8)
def _looked_up(start_from: str, site: str, for_own_code: bool, asking: UUID) -> Start:
    from tasks.train.start import find_start

    block = cast(ObjectStore, ObjectStore.load(site))
    models_folder = home() / "work" / "models"
    return find_start(
        start_from,
        _client(site),
        models_folder,
        block.source_roots,
        closed_folders(block),
        for_own_code=for_own_code,
    )


@lru_cache(maxsize=8)
def _identified(own_code: str, site: str, asking: UUID) -> dict[str, str]:
    """What own code is, looked up once a task run: the result is kept by it, so this is what must run.

    Args:
        own_code: The settings as JSON, which can be a key.
        site: Where datasets are.
        asking: The task run.
    """
    from tasks.train.own_code.config import OwnCode
    from tasks.train.own_code.source import identify

    own = OwnCode.model_validate_json(own_code)
    return identify(own, open_store(site), _code_access(own, site))


def _code_access(own: OwnCode, site: str) -> SourceAccess:
    from tasks.train.own_code.source import SourceAccess

    block = cast(ObjectStore, ObjectStore.load(site))
    options = block.storage_options if own.source.startswith("s3://") else {}
    return SourceAccess(options, block.source_roots, closed_folders(block))


def _write_output(run: RunRef, config: TrainConfig, site: str) -> None:
    """Write the model to the file that was asked for."""
    from tasks.data.delivery import to_destination
    from tasks.train.mlflow_model import download_bundle, write_zip

    folder = download_bundle(_client(site), run.model_uri, home() / "work" / "models")
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    to_destination(config.output, *_output_place(config, site), size, partial(write_zip, folder))
    get_run_logger().info("The model is in %s as well.", config.output)


def _output_place(config: TrainConfig, site: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """Options of the object store, folders that may be written to, and folders that may not."""
    block = cast(ObjectStore, ObjectStore.load(site))
    options = block.storage_options if config.output.startswith("s3://") else {}
    return options, block.source_roots, closed_folders(block)


@task(name="find run", task_run_name="find run {run_id}")
def find_run(run_id: str, site: str = "local") -> RunRef:
    """The reference to a training that finished earlier, from the id on its MLflow page.

    Raises:
        NotFound: There is no such training, or it was on somebody else's private dataset.
    """
    from tasks.train.train import find_run as find

    run = find(_client(site), run_id)
    open_store(site).open(run.dataset)
    return run


class Progress:
    """Shows a fit in the Prefect UI: a progress bar, a log line and the learning curves so far.

    Args:
        site: Whose docs site holds the picture of the curves.
        detail: What is trained.
    """

    def __init__(self, site: str, detail: str) -> None:
        self.log = get_run_logger()
        self._detail = detail
        self._docs = cast(DocsSite, DocsSite.load(site))
        self._picture = f"pictures/live-{uuid4().hex}.svg"
        self._drawn: UUID | None = None
        self._drawn_at = time.monotonic()
        self._bar = cast(
            UUID,
            create_progress_artifact(
                progress=0.0, key="training-progress", description="Training: reading the data"
            ),
        )

    def __call__(self, standing: Standing) -> None:
        """Show how far a fit is: what `tasks.train.live.Live` calls from its thread."""
        scores = {k: v for k, v in standing.metrics.items() if k.startswith(("train_", "validation_"))}
        known = standing.epochs > 0  # of own code only the steps are known, and its output is in the log
        said = (scores or dict(list(standing.metrics.items())[:_MOST_SAID])).items()
        line = f"Epoch {standing.epoch} of {standing.epochs}" if known else f"Step {standing.epoch}"
        if said:
            line += ": " + ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in said)
        if known:
            self.log.info(line)
        share = standing.epoch / standing.epochs if known else 0.0
        if standing.finished:  # it may have ended early
            share = 1.0
        update_progress_artifact(self._bar, progress=100.0 * share, description=line)
        due = time.monotonic() - self._drawn_at >= CURVES_INTERVAL_S
        if self._drawn if standing.ended else due:
            self._draw(standing)

    def _draw(self, standing: Standing) -> None:
        """Publish the curves so far: one file and one artifact, which are replaced each time."""
        picture = live_curves(standing.curves, standing.epochs, self._detail)
        if not picture:
            return
        file = Path(self._docs.folder, self._picture)
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".partial")
        aside.write_text(picture)
        aside.replace(file)
        # An address that changes with the picture: browsers keep what they have seen of the same one.
        url = f"{self._docs.url.rstrip('/')}/{self._picture}?epoch={standing.epoch}"
        about = f"Learning curves of {self._detail}, while it trains"
        if self._drawn is None:
            self._drawn = cast(UUID, create_image_artifact(url, key="learning-curves", description=about))
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._drawn, ArtifactUpdate(data=url, description=about))
        self._drawn_at = time.monotonic()


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
    return _checkpoint_folder(config, site) / digest[:24]


def _checkpoint_folder(config: TrainConfig, site: str) -> Path:
    if not config.checkpoint_folder:
        return home() / "work" / "train"
    from tasks.data.sources.addresses import local_path, require_allowed

    block = cast(ObjectStore, ObjectStore.load(site))
    path = Path(os.path.realpath(local_path(config.checkpoint_folder)))
    require_allowed(str(path), config.checkpoint_folder, block.source_roots, closed_folders(block))
    return path
