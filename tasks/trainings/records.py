"""What MLflow knows of trainings: read in pages, as plain facts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from tasks.errors import NotAllowed, NotFound
from tasks.refs import DATASET_TAG, LOCAL_USER, DatasetRef
from tasks.train.tags import (
    ALGORITHM_TAG,
    DATASET_REF_TAG,
    FLOW_RUN_TAG,
    KIND_TAG,
    OPENED_BY_TAG,
    OWNER_TAG,
    PARENT_TAG,
    STATUS_TAG,
    TRAINING_FILE,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DELETED_TAG = "trainyard.deleted"
"""Who deleted a run and when, as JSON; set just before it is deleted."""
NOTE_TAG = "mlflow.note.content"

_RUNS_AT_ONCE = 1_000
_EXPERIMENTS_AT_ONCE = 500
MOST_RUNS = 5_000
"""Newest runs that are looked through for a list."""

ACTIVE, DELETED, ANY = 1, 2, 3
"""MLflow's view types."""


@dataclass(frozen=True)
class RunFacts:
    """One MLflow run.

    Attributes:
        lifecycle: `active` or `deleted`.
        started_ms: When it began, in milliseconds since the epoch.
        ended_ms: When it ended; None while it runs.
    """

    run_id: str
    experiment: str
    experiment_id: str
    name: str
    status: str
    lifecycle: str
    artifact_uri: str
    started_ms: int
    ended_ms: int | None
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_training(self) -> bool:
        """Whether it has, or will have, a model; a study, a sweep or a trial has none."""
        return ALGORITHM_TAG in self.tags

    @property
    def is_search(self) -> bool:
        """Whether it is a study or a sweep, with its trainings nested below."""
        return self.tags.get(KIND_TAG) in ("study", "sweep")

    @property
    def flow_run_id(self) -> str:
        return self.tags.get(FLOW_RUN_TAG, "")

    @property
    def parent(self) -> str:
        return self.tags.get(PARENT_TAG, "")

    @property
    def dataset(self) -> str:
        return self.tags.get(DATASET_TAG, "")

    @property
    def status_tag(self) -> str:
        return self.tags.get(STATUS_TAG, "")

    @property
    def own_tags(self) -> dict[str, str]:
        """Tags that people set."""
        return {k: v for k, v in self.tags.items() if not k.startswith(("mlflow.", "trainyard."))}

    def dataset_ref(self) -> DatasetRef:
        """The dataset version that it learned from.

        Raises:
            NotFound: The run does not say.
        """
        try:
            return DatasetRef.model_validate_json(self.tags[DATASET_REF_TAG])
        except (KeyError, ValueError):
            raise NotFound(
                "The run does not say which dataset it learned from",
                where=f"run {self.run_id}",
                allowed="a training of this system",
            ) from None


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    model: str
    number: str
    aliases: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.model} v{self.number}" + (f" ({', '.join(self.aliases)})" if self.aliases else "")


def read(client: MlflowClient, run_id: str) -> RunFacts:
    """One run, deleted ones as well.

    Raises:
        NotFound: There is none.
    """
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise NotFound(
            f"MLflow has no run {run_id}",
            where=str(client.tracking_uri),
            mend="take the id from the list of trainings",
        ) from None
    return _facts(run, client.get_experiment(run.info.experiment_id).name)


def trainings(client: MlflowClient, experiment: str = "") -> tuple[list[RunFacts], bool]:
    """The newest trainings, trials and studies left out; and whether there are older ones besides.

    Args:
        client: MLflow.
        experiment: Only this one; empty for all.
    """
    found = search(client, f"tags.`{ALGORITHM_TAG}` LIKE '%'", experiment=experiment, most=MOST_RUNS + 1)
    found.sort(key=lambda run: run.started_ms, reverse=True)
    return found[:MOST_RUNS], len(found) > MOST_RUNS


def of_flow_run(client: MlflowClient, flow_run_id: str, view: int = ACTIVE) -> list[RunFacts]:
    """Runs that one flow run made, trials left out."""
    return search(client, f"tags.`{FLOW_RUN_TAG}` = '{flow_run_id}'", view=view)


def nested(client: MlflowClient, run: RunFacts, view: int = ACTIVE) -> list[RunFacts]:
    """Runs below another: the trials of a study, what own code opened, in whichever experiment."""
    below = search(client, f"tags.`{PARENT_TAG}` = '{run.run_id}'", experiment=run.experiment, view=view)
    opened = search(client, f"tags.`{OPENED_BY_TAG}` = '{run.run_id}'", view=view)
    return list({one.run_id: one for one in (*below, *opened)}.values())


def search(
    client: MlflowClient, wanted: str = "", *, experiment: str = "", view: int = ACTIVE, most: int = 10_000
) -> list[RunFacts]:
    """Runs of all experiments, or of one.

    Args:
        client: MLflow.
        wanted: A filter as MLflow takes it.
        experiment: Name of the only experiment; one that is not there has no runs.
        view: ACTIVE, DELETED or ANY runs.
        most: Runs to find in each 500 experiments, newest first.
    """
    names = {
        one.experiment_id: one.name
        for one in pages(client.search_experiments, view_type=ANY)
        if not experiment or one.name == experiment
    }
    ids = list(names)
    found: list[RunFacts] = []
    for start in range(0, len(ids), _EXPERIMENTS_AT_ONCE):
        some = ids[start : start + _EXPERIMENTS_AT_ONCE]
        runs = pages(
            client.search_runs,
            experiment_ids=some,
            filter_string=wanted,
            run_view_type=view,
            max_results=min(most, _RUNS_AT_ONCE),
            order_by=["attributes.start_time DESC"],
        )
        found += [_facts(run, names[run.info.experiment_id]) for run in itertools.islice(runs, most)]
    return found


def registered(client: MlflowClient, run_id: str = "") -> dict[str, list[Version]]:
    """Versions of registered models by the run that they came from.

    Args:
        client: MLflow.
        run_id: Only of this run, with their aliases; empty for all, without.
    """
    wanted = f"run_id = '{run_id}'" if run_id else ""
    aliases: dict[str, Mapping[str, Any]] = {}
    found: dict[str, list[Version]] = {}
    for version in pages(client.search_model_versions, filter_string=wanted, max_results=1_000):
        if version.name not in aliases:
            aliases[version.name] = client.get_registered_model(version.name).aliases if run_id else {}
        named = [alias for alias, number in aliases[version.name].items() if str(number) == version.version]
        known = Version(version.name, version.version, tuple(sorted(named)))
        found.setdefault(version.run_id or "", []).append(known)
    return found


def settings(client: MlflowClient, run: RunFacts) -> dict[str, Any] | None:
    """The settings that a training was started with; None where they were not kept."""
    if not any(one.path == TRAINING_FILE for one in client.list_artifacts(run.run_id)):
        return None
    import mlflow

    content: dict[str, Any] = json.loads(
        mlflow.artifacts.load_text(f"{run.artifact_uri}/{TRAINING_FILE}")  # the client's own has no such
    )
    return content


def require_training(run: RunFacts) -> None:
    """Check that a run is a training, a study or a sweep that is there.

    Raises:
        NotFound: It is deleted, or something else.
    """
    if run.lifecycle != "active":
        raise NotFound(
            f"The training {run.name} is deleted",
            where=f"run {run.run_id}",
            mend="restore it with the flow restore-training",
        )
    if not run.is_training and not run.is_search:
        raise NotFound(
            f"The run {run.name} is no training",
            where=f"run {run.run_id}",
            allowed="a training, a study or a sweep",
            mend="take the id from the list of trainings",
        )


def require_owner(run: RunFacts, user: str, act: str) -> None:
    """Check that a training is the user's own.

    Args:
        run: The training.
        user: Who asks.
        act: What only an owner may do, such as `delete`.

    Raises:
        NotAllowed: It is somebody else's.
    """
    owner = run.tags.get(OWNER_TAG) or LOCAL_USER
    if owner != user:
        raise NotAllowed(
            f"The user {user} may not {act} the training {run.name}",
            where=f"run {run.run_id}",
            allowed=f"its owner {owner}",
            mend=f"ask {owner}",
        )


def pages(ask: Callable[..., Any], **how: Any) -> Iterator[Any]:
    """All items of one of MLflow's searches."""
    page = ask(**how)
    yield from page
    while page.token:
        page = ask(**how, page_token=page.token)
        yield from page


def _facts(run: Run, experiment: str) -> RunFacts:
    info = run.info
    return RunFacts(
        run_id=info.run_id,
        experiment=experiment,
        experiment_id=info.experiment_id,
        name=info.run_name or "",
        status=info.status,
        lifecycle=info.lifecycle_stage,
        artifact_uri=info.artifact_uri,
        started_ms=info.start_time or 0,
        ended_ms=info.end_time,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )
