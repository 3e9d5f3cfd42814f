"""What MLflow has of a study: enough to go on with it where all else is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlflow.entities import Run

from tasks.errors import InvalidSettings, NotFound
from tasks.refs import DatasetRef
from tasks.train.tags import (
    ELAPSED_TAG,
    ENDED_TAG,
    ERROR_TAG,
    FLOW_RUN_TAG,
    KIND_TAG,
    PARENT_TAG,
    POINT_TAG,
    STATUS_TAG,
    TRIAL_TAG,
)
from tasks.tune.config import TuneConfig
from tasks.tune.records import FINAL, Study, Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDY_FILE = "study.json"
"""Artifact of a study: its settings and its dataset, to go on with."""


@dataclass(frozen=True)
class Recorded:
    """A trial as MLflow has it.

    Attributes:
        trial: How it stands; its number is its place in the study.
        values: What it reported of the study's metric, by epoch.
        is_over: Whether the study itself ended it: what else closed it can be taken up.
    """

    trial: Trial
    values: dict[int, float] = field(default_factory=dict)
    is_over: bool = False


def unfinished_study(client: MlflowClient, experiment: str, flow_run: str) -> str | None:
    """The study that an earlier attempt of a flow run has begun; None where there is none to go on with."""
    known = client.get_experiment_by_name(experiment)
    if known is None or not flow_run:
        return None
    wanted = f"tags.`{KIND_TAG}` = 'study' and tags.`{FLOW_RUN_TAG}` = '{flow_run}'"
    found: Sequence[Run] = client.search_runs([known.experiment_id], wanted, order_by=["start_time DESC"])
    return str(found[0].info.run_id) if found and found[0].info.status != "FINISHED" else None


def trials_of(client: MlflowClient, study_run: str, metric: str) -> list[Recorded]:
    """All trials of a study, by their numbers; of two of one number the older one."""
    experiment = client.get_run(study_run).info.experiment_id
    wanted = f"tags.`{PARENT_TAG}` = '{study_run}' and tags.`{POINT_TAG}` LIKE '{{%'"
    token: str | None = None
    runs: list[Run] = []
    while True:
        page = client.search_runs([experiment], wanted, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    found: dict[int, Recorded] = {}
    for run in sorted(runs, key=lambda run: run.info.start_time):
        recorded = _recorded(client, run, metric)
        found.setdefault(recorded.trial.number, recorded)
    return [found[number] for number in sorted(found)]


def recall(study: Study, recorded: Sequence[Recorded]) -> None:
    """Have a study know what its trials reported; those that are over are in its list from now on."""
    for one in recorded:
        status = one.trial.status
        for epoch, value in sorted(one.values.items()):
            study.hear(one.trial, value, epoch)
        one.trial.status = status
        if one.is_over:
            study.trials[one.trial.id] = one.trial


def elapsed_s(client: MlflowClient, study_run: str) -> float:
    """For how long a study has run before."""
    return float(client.get_run(study_run).data.tags.get(ELAPSED_TAG, 0.0))


def settings_of(client: MlflowClient, study_run: str) -> tuple[TuneConfig, DatasetRef]:
    """The settings and the dataset of a study.

    Raises:
        NotFound: There is no such study.
        InvalidSettings: The run is no study, or one of another version of Trainyard.
    """
    from mlflow.exceptions import MlflowException

    where = "the MLflow run of the study"
    try:
        run = client.get_run(study_run)
    except MlflowException as error:
        raise NotFound(
            f"MLflow has no run {study_run}",
            where=where,
            mend="copy the id of the study's run from its page",
        ) from error
    if run.data.tags.get(KIND_TAG) != "study":
        raise InvalidSettings(
            f"the run {study_run} is no study",
            where=where,
            mend="copy the id of the run that the trials are nested in",
        )
    try:
        told = json.loads(_text(client, study_run))
        return TuneConfig.model_validate(told["config"]), DatasetRef.model_validate(told["dataset"])
    except (OSError, ValueError, KeyError, MlflowException) as error:
        raise InvalidSettings(
            f"the study {study_run} cannot be read: {error}",
            where=f"its artifact {STUDY_FILE}",
            mend="start a new study",
        ) from error


def keep_settings(client: MlflowClient, study_run: str, config: TuneConfig, ref: DatasetRef) -> None:
    """Record the settings and the dataset of a study."""
    said = config.model_dump(mode="json", exclude={"katib"})  # its fields have what it says
    told = {"config": said, "dataset": ref.model_dump(mode="json")}
    client.log_text(study_run, json.dumps(told, indent=1), STUDY_FILE)


def _text(client: MlflowClient, study_run: str) -> str:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(study_run, STUDY_FILE, folder)).read_text()


def _recorded(client: MlflowClient, run: Run, metric: str) -> Recorded:
    tags, number = run.data.tags, int(run.data.tags[TRIAL_TAG])
    history = client.get_metric_history(run.info.run_id, metric)
    values = {one.step: one.value for one in sorted(history, key=lambda one: one.timestamp)}
    values = {one.step: one.value for one in client.get_metric_history(run.info.run_id, metric)}
    trial = Trial(f"trial-{number}", number, json.loads(tags[POINT_TAG]), run.info.run_id)
    trial.ended, trial.error = tags.get(ENDED_TAG, ""), tags.get(ERROR_TAG, "")
    status = tags.get(STATUS_TAG, "")
    is_over = bool(trial.ended) and status in FINAL
    if is_over:
        trial.status = next(one for one in FINAL if one == status)
    return Recorded(trial, values, is_over)
