"""A study goes on where it was: after a kill, with more trials, with one of them taken, or told to end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from blocks.ray_cluster import RayCluster
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotFound
from tasks.refs import DatasetRef, StudyRef
from tasks.train.tags import FLOW_RUN_TAG, KIND_TAG, STATUS_TAG, STOP_TAG, TRIAL_TAG
from tasks.tune.config import ExtendConfig, SubmitConfig, TuneConfig
from tasks.tune.later import extended, submit
from tasks.tune.recorded import unfinished_study
from tasks.tune.records import Study
from tasks.tune.study import run_study

FLOW_RUN = "5a61ac7e-0000-4000-8000-000000000001"
QUICK = {"hyperparameters": {"epochs": 6, "patience_epochs": 6}, "scheduler": "none", "time_limit_s": 300}
WIDTHS = [{"name": "learning_rate", "kind": "log", "low": 0.001, "high": 0.1}]


def study_of(**about: Any) -> TuneConfig:
    return TuneConfig.model_validate(
        {"algorithm": "mlp", "searcher": "random", "search": WIDTHS, "max_trials": 4, **QUICK, **about}
    )


def trials_of(client: MlflowClient, study: str) -> dict[int, Run]:
    experiment = client.get_run(study).info.experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{study}'")
    return {int(run.data.tags[TRIAL_TAG]): run for run in found if KIND_TAG not in run.data.tags}


class Interrupted(Exception):
    """Stands for whatever ends a driver in the middle."""


@pytest.fixture(scope="module")
def ray_session(broken_off: StudyRef) -> Iterator[None]:
    """Ray for the tests of one after the other; the study that is broken off has had its own."""
    with RayCluster().session():
        yield


@pytest.fixture(scope="module")
def broken_off(
    store: DatasetStore, client: MlflowClient, iris: DatasetRef, tmp_path_factory: pytest.TempPathFactory
) -> StudyRef:
    """A study that was broken off after two of four trials, whose folder was lost, and which went on."""

    def after_two(study: Study) -> None:
        if study.finished >= 2:
            raise Interrupted("Interrupted")

    tags = {FLOW_RUN_TAG: FLOW_RUN}
    with RayCluster().session(), pytest.raises(Exception, match="Interrupted"):  # which ends with its driver
        run_study(
            iris,
            study_of(max_parallel=1),
            store,
            client,
            tmp_path_factory.mktemp("lost"),
            after_two,
            tags=tags,
        )
    begun = unfinished_study(client, "default", FLOW_RUN)
    assert begun is not None
    before = trials_of(client, begun)
    over = {number for number, run in before.items() if run.data.tags[STATUS_TAG] == "succeeded"}
    assert len(over) >= 2, [(n, run.data.tags.get(STATUS_TAG), run.info.status) for n, run in before.items()]
    folder = tmp_path_factory.mktemp("new")
    with RayCluster().session():
        study = run_study(iris, study_of(max_parallel=1), store, client, folder, tags=tags, go_on=begun)
    after = trials_of(client, begun)
    assert study.run_id == begun
    assert {n: after[n].info.end_time for n in over} == {n: before[n].info.end_time for n in over}
    assert unfinished_study(client, "default", FLOW_RUN) is None
    return study


@pytest.mark.usefixtures("ray_session")
def test_a_study_that_was_broken_off_has_all_its_trials_once(
    client: MlflowClient, broken_off: StudyRef, store: DatasetStore, iris: DatasetRef, tmp_path: Path
) -> None:
    unbroken = run_study(iris, study_of(max_parallel=1), store, client, tmp_path)
    points = [
        {number: run.data.params for number, run in trials_of(client, one.run_id).items()}
        for one in (broken_off, unbroken)
    ]
    assert points[0] == points[1]
    assert (broken_off.trials, broken_off.end_reason) == (4, "max trials reached")
    best = [client.get_run(one.best.run_id).data for one in (broken_off, unbroken)]
    assert best[0].tags[TRIAL_TAG] == best[1].tags[TRIAL_TAG]
    # The folders of trials that lost are gone: only that of the best is left.
    assert len(list((tmp_path / "trials").iterdir())) == 1


@pytest.mark.usefixtures("ray_session")
def test_a_study_is_extended_in_a_wider_space(
    client: MlflowClient, broken_off: StudyRef, store: DatasetStore, tmp_path: Path
) -> None:
    wider = [{**WIDTHS[0], "high": 0.5}]
    extension = ExtendConfig.model_validate(
        {"study": broken_off.run_id, "more_trials": 2, "more_time_s": 120, "search": wider}
    )
    ref, config = extended(client, extension, "")
    before = {number: run.info.end_time for number, run in trials_of(client, broken_off.run_id).items()}
    study = run_study(ref, config, store, client, tmp_path, go_on=broken_off.run_id)
    after = trials_of(client, broken_off.run_id)
    assert (study.run_id, study.trials, sorted(after)) == (broken_off.run_id, 6, [1, 2, 3, 4, 5, 6])
    assert {number: after[number].info.end_time for number in before} == before
    with pytest.raises(InvalidSettings, match="is of dropout"):
        extended(
            client,
            ExtendConfig.model_validate(
                {"study": broken_off.run_id, "search": [{**WIDTHS[0], "name": "dropout", "high": 0.5}]}
            ),
            "",
        )
    with pytest.raises(InvalidSettings, match="is no study"):
        extended(client, ExtendConfig(study=study.best.run_id), "")
    with pytest.raises(NotFound, match="MLflow has no run"):
        extended(client, ExtendConfig(study="0" * 32), "")


@pytest.mark.usefixtures("ray_session")
def test_a_trial_is_taken_while_others_run_and_the_rest_is_told_to_end(
    client: MlflowClient, store: DatasetStore, iris: DatasetRef, tmp_path: Path
) -> None:
    """Without the stop there would be ten thousand epochs to go."""
    slow = study_of(max_trials=50, hyperparameters={"epochs": 200, "patience_epochs": 200})
    taken: list[Any] = []

    def take(study: Study) -> None:
        if study.finished >= 1 and not threads:
            run = next(iter(study.trials.values())).run_id
            parent = client.get_run(run).data.tags["mlflow.parentRunId"]
            config = SubmitConfig(study=parent, stop_the_rest=True)
            work = tmp_path / "submitted"
            thread = threading.Thread(
                target=lambda: taken.append(submit(config, store, client, work, tmp_path / "study"))
            )
            threads.append(thread)
            thread.start()

    threads: list[threading.Thread] = []
    (tmp_path / "study").mkdir()
    study = run_study(iris, slow, store, client, tmp_path / "study", take)
    threads[0].join(120)
    assert study.end_reason == "stopped"
    assert study.trials < 50
    submitted = client.get_run(taken[0].run_id)
    assert submitted.data.tags[KIND_TAG] == "submitted trial"
    assert taken[0].model_uri.startswith("models:/m-")
    assert STOP_TAG in client.get_run(study.run_id).data.tags
    statuses = {run.data.tags[STATUS_TAG] for run in trials_of(client, study.run_id).values()}
    assert statuses <= {"succeeded", "killed"}
    extended(client, ExtendConfig(study=study.run_id), "")
    assert STOP_TAG not in client.get_run(study.run_id).data.tags
    with pytest.raises(NotFound, match="has no trial 99"):
        submit(SubmitConfig(study=study.run_id, trial=99), store, client, tmp_path / "none")
