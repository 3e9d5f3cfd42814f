"""The tuning step: a study on Ray with progress in the Prefect UI."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from blocks.docs_site import DocsSite
from blocks.mlflow_server import MlflowServer
from blocks.ray_cluster import RayCluster
from tasks.cache import StepCache
from tasks.data.task import asking_user, open_store
from tasks.home import home
from tasks.refs import DatasetRef, RunRef, StudyRef
from tasks.train.pages import run_page
from tasks.train.tags import FLOW_RUN_TAG, OWNER_TAG, PARENT_TAG
from tasks.tune.config import ExtendConfig, SubmitConfig, TuneConfig
from tasks.tune.scratch import scratch_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tasks.data.storage.store import DatasetStore
    from tasks.tune.progress import StudyPage
    from tasks.tune.records import Study
    from tasks.tune.view import StudyView


def verify_best(result: StudyRef, inputs: Mapping[str, Any]) -> None:
    """Check that the best training of a study or sweep and its model are still in MLflow."""
    from tasks.train.train import verify_run

    verify_run(cast(MlflowServer, MlflowServer.load(inputs["site"])).client(), result.best)


@task(
    name="tune",
    task_run_name="tune {config.algorithm} on {ref.name}",
    cache_policy=StepCache(verify=verify_best),
    persist_result=True,
    result_serializer="json",
)
def tune_model(ref: DatasetRef, config: TuneConfig, site: str = "local") -> StudyRef:
    """Search an algorithm's hyperparameters on Ray and train the best configuration.

    Args:
        ref: A preprocessed dataset version.
        config: What to search, how, and when to end.
        site: Which set of blocks to use.
    """
    watch = Watcher(cast(MlflowServer, MlflowServer.load(site)))
    with workplace(site) as place, watch.page(site):
        from tasks.tune.recorded import unfinished_study
        from tasks.tune.study import run_study

        before = unfinished_study(place.client, config.experiment, place.tags.get(FLOW_RUN_TAG, ""))
        if before:
            get_run_logger().info("Going on with the study %s of an earlier attempt.", before)
        study = run_study(
            ref, config, place.store, place.client, place.folder, watch, tags=place.tags, go_on=before
        )
    get_run_logger().info(
        "Study %s: %d trials, %s; the best is run %s.",
        study.run_id,
        study.trials,
        study.end_reason,
        study.best.run_id,
    )
    return study


def settings_of_study(study: str, site: str) -> TuneConfig:
    """The settings that a study was run with.

    Raises:
        NotFound: There is no such study.
        InvalidSettings: The run is no study.
    """
    from tasks.tune.recorded import settings_of

    return settings_of(cast(MlflowServer, MlflowServer.load(site)).client(), study)[0]


@task(name="extend", task_run_name="go on with study {config.study}")
def extend_study(config: ExtendConfig, site: str = "local") -> StudyRef:
    """Let a study that has ended go on, with all that its trials have shown.

    Args:
        config: The study, and by how much.
        site: Which set of blocks to use.
    """
    watch = Watcher(cast(MlflowServer, MlflowServer.load(site)))
    with workplace(site) as place, watch.page(site):
        from tasks.tune.later import extended
        from tasks.tune.study import run_study

        ref, settings = extended(place.client, config, place.tags.get(FLOW_RUN_TAG, ""))
        return run_study(
            ref, settings, place.store, place.client, place.folder, watch, tags=place.tags, go_on=config.study
        )


@task(name="submit-trial", task_run_name="submit a trial of study {config.study}")
def submit_trial(config: SubmitConfig, site: str = "local") -> RunRef:
    """Make a trial of a study an ordinary training, which can be registered and served.

    Args:
        config: The study, the trial, and whether the others are to end.
        site: Which set of blocks to use.
    """
    from tasks.tune.later import submit

    client = cast(MlflowServer, MlflowServer.load(site)).client()
    work = home() / "work" / "search"
    with scratch_folder(work, str(flow_run.id or uuid4())) as folder:
        tags = client.get_run(config.study).data.tags
        return submit(
            config, open_store(site), client, folder, work / tags.get(FLOW_RUN_TAG, "none"), tags=_run_tags()
        )


@dataclass(frozen=True)
class Workplace:
    """What a study or a sweep works with.

    Attributes:
        store: Where dataset versions are.
        client: MLflow.
        folder: For checkpoints; removed when all is done.
        tags: For the MLflow runs: the flow run's id.
    """

    store: DatasetStore
    client: MlflowClient
    folder: Path
    tags: dict[str, str]


@contextmanager
def workplace(site: str) -> Iterator[Workplace]:
    """Connect Ray, and give a folder to work in, which stays for the next attempt where this one fails."""
    client = cast(MlflowServer, MlflowServer.load(site)).client()
    with (
        scratch_folder(home() / "work" / "search", str(flow_run.id or uuid4())) as folder,
        cast(RayCluster, RayCluster.load(site)).session(),
    ):
        yield Workplace(open_store(site), client, folder, _run_tags())


def _run_tags() -> dict[str, str]:
    """Tags of the MLflow runs that this flow run makes."""
    return {OWNER_TAG: asking_user(), **({FLOW_RUN_TAG: str(flow_run.id)} if flow_run.id else {})}


class SearchProgress:
    """A progress bar in the Prefect UI, and a log line for everything that ended.

    Args:
        key: Key of the artifact.
        title: First word of its description.
    """

    def __init__(self, key: str, title: str) -> None:
        self.log = get_run_logger()
        self.told: set[str] = set()
        self.artifact = cast(
            UUID, create_progress_artifact(progress=0.0, key=key, description=f"{title}: starting Ray")
        )

    def show(self, ended: Mapping[str, str], percent: float, description: str) -> None:
        """Log what ended since the last call (id → line), and move the bar."""
        for name, line in ended.items():
            if name not in self.told:
                self.told.add(name)
                self.log.info(line)
        update_progress_artifact(self.artifact, progress=percent, description=description)


class Watcher(SearchProgress):
    """Shows a study: see `tasks.tune.study.Watch`. Ray keeps a copy, so that it holds no thread or lock.

    Args:
        server: Where its trials are recorded.
    """

    def __init__(self, server: MlflowServer) -> None:
        super().__init__("study-progress", "Study")
        self._server = server
        self._study: Study | None = None
        self._named: tuple[str, str] | None = None
        self._began: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def __call__(self, study: Study) -> None:
        """Hear of a trial that started or ended."""
        self._study = study
        now, ended = time.monotonic(), {}
        for trial in list(study.trials.values()):
            if trial.status in ("created", "running"):
                self._began.setdefault(trial.id, now)
            else:
                if trial.id in self._began:
                    self._took.setdefault(trial.id, now - self._began[trial.id])
                score = "no score" if trial.best is None else f"{study.metric} {trial.best:.4f}"
                ended[trial.id] = f"Trial {trial.number} {trial.status}: {score}. {trial.error}".rstrip()
        best = study.best
        shown = "none yet" if best is None or best.best is None else f"{best.best:.4f} (trial {best.number})"
        self.show(
            ended,
            100.0 * study.finished / max(study.planned, 1),
            f"{study.finished} of {study.planned} trials ended; best {study.metric}: {shown}",
        )

    def page(self, site: str) -> StudyPage:
        """The page of the study, kept up to date while the block runs."""
        from tasks.tune.progress import StudyPage

        return StudyPage(self.view, cast(DocsSite, DocsSite.load(site)))

    def view(self) -> StudyView | None:
        """The study as its page shows it; asked by the page's thread."""
        from tasks.tune.view import of_study

        study = self._study
        if study is None or not study.trials:
            return None
        if self._named is None:
            client = self._server.client()
            first = client.get_run(next(iter(study.trials.values())).run_id)
            parent = client.get_run(first.data.tags[PARENT_TAG])
            self._named = parent.info.run_name, first.info.experiment_id
        name, experiment = self._named
        took = dict(self._took)
        return of_study(study, name, lambda run: run_page(self._server.tracking_uri, experiment, run), took)
