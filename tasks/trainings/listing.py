"""The list of trainings: what Prefect and MLflow know of each, joined, filtered and sorted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tasks.errors import NotFound
from tasks.refs import LOCAL_USER, USER_TAG
from tasks.train.pages import run_page
from tasks.train.scores import headline
from tasks.train.tags import ALGORITHM_TAG, ERROR_TAG, OWNER_TAG
from tasks.trainings.config import ListConfig
from tasks.trainings.records import RunFacts
from tasks.trainings.status import Status, status
from tasks.trainings.tags import DELETED_TAG, GROUP_TAG, SET_TAG

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

_DETAIL = 160


@dataclass(frozen=True)
class FlowRunFacts:
    """What Prefect knows of one flow run.

    Attributes:
        flow: Its flow, such as `train`.
        due: When it is to start, or was.
        reused: The MLflow run whose result it took; empty where it made its own.
    """

    id: str
    flow: str
    name: str
    state_type: str
    state_name: str
    message: str
    tags: Sequence[str]
    parameters: Mapping[str, Any]
    due: datetime | None
    started: datetime | None
    ended: datetime | None
    duration_s: float
    page: str
    reused: str = ""


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        id: Its MLflow run, or its flow run before there is one.
        test: Headline metric on the test rows; None where it was not evaluated.
        validation: The same of the kept model on the validation rows; the folds' mean, where it was
            cross-validated.
        started: When it began, in seconds since the epoch; for one that has not, when it is due.
        detail: Why it failed, or that it is somebody else's result.
    """

    id: str
    name: str
    status: Status
    algorithm: str
    dataset: str
    experiment: str
    user: str
    group: str
    metric: str
    higher_is_better: bool
    test: float | None
    validation: float | None
    started: float
    duration_s: float | None
    detail: str
    flow_run_page: str
    mlflow_page: str
    words: str = field(repr=False)


def facts(run: FlowRun, flow: str, page: str, reused: str) -> FlowRunFacts:
    """What matters of a flow run.

    Args:
        run: As Prefect has it.
        flow: Name of its flow.
        page: Address of its page.
        reused: The MLflow run whose result it took.
    """
    return FlowRunFacts(
        id=str(run.id),
        flow=flow,
        name=run.name,
        state_type=run.state_type.value if run.state_type else "PENDING",
        state_name=run.state_name or "",
        message=(run.state.message or "") if run.state else "",
        tags=list(run.tags),
        parameters=run.parameters,
        due=run.expected_start_time,
        started=run.start_time,
        ended=run.end_time,
        duration_s=run.total_run_time.total_seconds(),
        page=page,
        reused=reused,
    )


def joined(
    runs: Sequence[RunFacts],
    flow_runs: Mapping[str, FlowRunFacts],
    published: Collection[str],
    hidden: Collection[str],
    tracking_uri: str,
    now: float,
) -> list[Training]:
    """Every training once: MLflow runs with their flow runs, then flow runs that have none.

    Args:
        runs: Trainings in MLflow.
        flow_runs: Flow runs that train, by id.
        published: MLflow runs that a registered version came from.
        hidden: Datasets that who asks may not see.
        tracking_uri: Address of MLflow.
        now: Seconds since the epoch.
    """
    found = [_of_run(run, flow_runs.get(run.flow_run_id), published, tracking_uri, now) for run in runs]
    by_id = {run.run_id: run for run in runs}
    made = {run.flow_run_id for run in runs}
    for flow_run in flow_runs.values():
        if flow_run.id in made or DELETED_TAG in flow_run.tags:
            continue
        other = by_id.get(flow_run.reused)
        found.append(_of_flow_run(flow_run, other, tracking_uri, now))
    return [one for one in found if one.dataset.partition("@")[0] not in hidden]


def chosen(trainings: Sequence[Training], config: ListConfig) -> list[Training]:
    """Those that the settings choose, in their order."""
    kept = [one for one in trainings if _fits(one, config)]
    orders: dict[str, Any] = {
        "newest": lambda one: -one.started,
        "oldest": lambda one: one.started,
        "name": lambda one: (one.name, -one.started),
        "duration": lambda one: -(one.duration_s or 0),
        "best": lambda one: _rank(one, one.validation if one.test is None else one.test),
        "validation": lambda one: _rank(one, one.validation),
    }
    return sorted(kept, key=orders[config.sort])[: config.limit]


def value_of(tags: Sequence[str], prefix: str) -> str:
    """What stands behind a prefix among the tags, such as the user in `user:ada`."""
    return next((tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix)), "")


def _of_run(
    run: RunFacts, flow_run: FlowRunFacts | None, published: Collection[str], tracking_uri: str, now: float
) -> Training:
    tag = run.status_tag
    if run.run_id in published:
        tag = "published"
    elif tag == "published":  # its version was deleted since
        tag = "succeeded"
    word = status(
        flow_run.state_type if flow_run else None,
        flow_run.state_name if flow_run else None,
        run.status,
        tag,
    )
    ended = now * 1000 if word == "running" else run.ended_ms
    tags = flow_run.tags if flow_run else ()
    detail = value_of(tags, SET_TAG)
    if word == "failed":
        detail = run.tags.get(ERROR_TAG, "") or (flow_run.message if flow_run else "")
    metric, higher, validation, test = _scores(run)
    user = run.tags.get(OWNER_TAG) or value_of(tags, USER_TAG) or LOCAL_USER
    algorithm = run.tags.get(ALGORITHM_TAG, "")
    return Training(
        id=run.run_id,
        name=run.name,
        status=word,
        algorithm=algorithm,
        dataset=run.dataset,
        experiment=run.experiment,
        user=user,
        group=value_of(tags, GROUP_TAG),
        metric=metric,
        higher_is_better=higher,
        test=test,
        validation=validation,
        started=run.started_ms / 1000,
        duration_s=(ended - run.started_ms) / 1000 if ended else None,
        detail=_first_line(detail),
        flow_run_page=flow_run.page if flow_run else "",
        mlflow_page=run_page(tracking_uri, run.experiment_id, run.run_id),
        words=_words(run.name, algorithm, run.dataset, user, tags, run.own_tags),
    )


def _of_flow_run(flow_run: FlowRunFacts, reused: RunFacts | None, tracking_uri: str, now: float) -> Training:
    word = status(flow_run.state_type, flow_run.state_name)
    training = flow_run.parameters.get("training") or {}
    algorithm = str(training.get("algorithm", "auto"))
    dataset = str(
        (flow_run.parameters.get("dataset") or flow_run.parameters.get("data") or {}).get("name", "")
    )
    experiment = str(training.get("experiment", "default"))
    detail = flow_run.message if word in ("failed", "aborted") else ""
    metric, higher, validation, test = ("", True, None, None)
    if reused is not None:
        metric, higher, validation, test = _scores(reused)
        algorithm = reused.tags.get(ALGORITHM_TAG, algorithm)
        dataset, experiment = reused.dataset, reused.experiment
        detail = f"took the result of {reused.name} ({reused.run_id})"
    moment = flow_run.started or flow_run.due
    user = value_of(flow_run.tags, USER_TAG) or LOCAL_USER
    return Training(
        id=flow_run.id,
        name=flow_run.name,
        status=word,
        algorithm=algorithm,
        dataset=dataset,
        experiment=experiment,
        user=user,
        group=value_of(flow_run.tags, GROUP_TAG),
        metric=metric,
        higher_is_better=higher,
        test=test,
        validation=validation,
        started=moment.timestamp() if moment else now,
        duration_s=flow_run.duration_s if flow_run.started else None,
        detail=_first_line(detail),
        flow_run_page=flow_run.page,
        mlflow_page=run_page(tracking_uri, reused.experiment_id, reused.run_id) if reused else "",
        words=_words(flow_run.name, algorithm, dataset, user, flow_run.tags, {}),
    )


def _scores(run: RunFacts) -> tuple[str, bool, float | None, float | None]:
    """Name of the headline metric, whether higher is better, and its values on validation and test rows."""
    try:
        metric, higher = headline(run.dataset_ref().problem)
    except NotFound:
        return "", True, None, None
    folds = run.metrics.get(f"cv_validation_{metric}_mean")
    validation = run.metrics.get(f"best_validation_{metric}", folds)
    return metric, higher, validation, run.metrics.get(f"test_{metric}")


def _fits(one: Training, config: ListConfig) -> bool:
    if config.status and one.status not in config.status:
        return False
    if config.dataset and config.dataset not in (one.dataset, one.dataset.partition("@")[0]):
        return False
    for wanted, value in (
        (config.experiment, one.experiment),
        (config.group, one.group),
        (config.user, one.user),
    ):
        if wanted and wanted != value:
            return False
    return config.text.lower() in one.words


def _rank(one: Training, score: float | None) -> tuple[str, float, float]:
    """Best first within each metric; without a score last."""
    if score is None:
        return ("~", 0.0, -one.started)
    return (one.metric, -score if one.higher_is_better else score, -one.started)


def _words(
    name: str, algorithm: str, dataset: str, user: str, tags: Sequence[str], own: Mapping[str, str]
) -> str:
    return "\n".join([name, algorithm, dataset, user, *tags, *own.keys(), *own.values()]).lower()


def _first_line(text: str) -> str:
    line = (text or "").strip().split("\n", 1)[0].removeprefix("Flow run encountered an exception: ")
    return line if len(line) <= _DETAIL else line[: _DETAIL - 1] + "…"
