"""Groups, drafts and copies of trainings: what is started, and whose it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect import flow, tags
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType

from flows import drafts, groups, removal, trainings
from tasks.errors import InvalidSettings, NotAllowed, NotFound
from tasks.launch import task as launch_stage
from tasks.launch.config import CopyConfig, DraftConfig, GroupConfig, StartConfig
from tasks.removal.config import DeleteConfig
from tasks.train.config import TrainConfig
from tasks.train.tags import FLOW_RUN_TAG
from tasks.trainings.config import ListConfig
from tests.helpers.training_site import IRIS, QUICK, SITE, end, group_of, page, row_of, trained


def test_a_group_queues_in_order_and_again_adds_only_what_it_lacks(
    home: Path, prefect: SyncPrefectClient
) -> None:
    config = GroupConfig(name="rates", grid={"algorithm": ["mlp", "random_forest"], "seed": [0, 1]})
    with tags("user:ada", "other"):
        ids = groups.start_group(config, IRIS, TrainConfig(), SITE)
    runs = {str(run.id): run for run in group_of(prefect, "rates")}
    assert [runs[one].parameters["training"]["algorithm"] for one in ids] == ["mlp"] * 2 + [
        "random_forest"
    ] * 2
    due = [runs[one].expected_start_time for one in ids]
    assert due == sorted(due)
    assert len(set(due)) == 4
    assert {run.work_queue_name for run in runs.values()} == {"low"}
    carried = {"user:ada", "group:rates"}
    assert all(carried <= set(run.tags) and "other" not in run.tags for run in runs.values())
    assert {row["status"] for row in trainings.list_trainings(ListConfig(group="rates"), SITE)} == {"pending"}
    assert "4 pending" in page("group")

    end(prefect, ids[0], StateType.COMPLETED)
    end(prefect, ids[1], StateType.FAILED)
    more = config.model_copy(update={"grid": {**config.grid, "seed": [0, 1, 2]}})
    with tags("user:ada"):
        again = groups.start_group(more, IRIS, TrainConfig(), SITE)
    assert (again[0], again[3:5]) == (ids[0], ids[2:4])  # succeeded, and still waiting
    assert again[1] != ids[1]  # failed: once more
    assert len(group_of(prefect, "rates")) == 4 + 1 + 2

    with tags("user:eve"), pytest.raises(NotAllowed):
        groups.stop_group("rates", "ada", SITE)
    with tags("user:ada"):
        assert set(groups.stop_group("rates", site=SITE)) >= set(ids[2:4])
    words = [row["status"] for row in trainings.list_trainings(ListConfig(group="rates"), SITE)]
    assert sorted(words) == ["aborted"] * 5 + ["failed", "succeeded"]
    with pytest.raises(NotFound, match="no group nowhere"):
        groups.stop_group("nowhere", site=SITE)


def test_one_flow_run_never_starts_a_set_twice(home: Path, prefect: SyncPrefectClient) -> None:
    config = GroupConfig(name="retried", sets=({"seed": 1}, {"seed": 2}))

    @flow
    def killed_and_retried() -> tuple[list[str], list[str]]:
        first = launch_stage.start_group.fn(config, IRIS, QUICK, SITE)
        end(prefect, first[0], StateType.CRASHED)  # it ended before the retry
        return first, launch_stage.start_group.fn(config, IRIS, QUICK, SITE)

    first, second = killed_and_retried()
    assert first == second
    assert len(group_of(prefect, "retried")) == 2


def test_two_users_may_name_their_groups_alike(home: Path, prefect: SyncPrefectClient) -> None:
    config = GroupConfig(name="alike", grid={"seed": [1, 2]}, draft=True)
    with tags("user:ada"):
        of_ada = groups.start_group(config, IRIS, QUICK, SITE)
    by_hand = prefect.create_flow_run_from_deployment(  # nobody's
        prefect.read_deployment_by_name("train/step").id, tags=["group:alike", "user:ada", "user:eve"]
    )
    with tags("user:eve"):
        with pytest.raises(NotFound, match="eve has no group alike"):
            groups.stop_group("alike", site=SITE)
        of_eve = groups.start_group(config, IRIS, QUICK, SITE)
        assert not set(of_ada) & set(of_eve)
        assert "2 draft" in page("group")
        assert groups.start_group(config, IRIS, QUICK, SITE) == of_eve
        assert set(groups.stop_group("alike", site=SITE)) == set(of_eve)
    with tags("user:ada"):
        assert drafts.start_training(StartConfig(group="alike")) == of_ada
    ended = {str(run.id): run.state_name for run in group_of(prefect, "alike")}
    assert {ended[one] for one in of_ada} == {"Resuming"}
    assert not {ended[one] for one in of_eve} & {"Draft", "Resuming"}
    assert ended[str(by_hand.id)] == "Scheduled"


def test_a_draft_waits_until_it_is_started_and_is_edited_by_a_copy(
    home: Path, prefect: SyncPrefectClient
) -> None:
    with tags("user:ada"):
        draft = drafts.draft_training(IRIS, QUICK, DraftConfig(name="mine"), SITE)
        assert row_of(draft)["status"] == "draft"
        with pytest.raises(InvalidSettings, match="did you mean 'epochs'"):
            drafts.copy_training(CopyConfig(training=draft, changes={"algorithm": "mlp", "epoch": 2}), SITE)
        edited = drafts.copy_training(
            CopyConfig(training=draft, changes={"seed": 9}, draft=True, replace=True), SITE
        )
    run = prefect.read_flow_run(edited)
    assert (run.state_name, run.parameters["training"]["seed"]) == ("Draft", 9)
    assert run.next_scheduled_start_time is None  # what a worker looks for
    with pytest.raises(NotFound, match="no flow run"):
        drafts.start_training(StartConfig(drafts=(draft,)))  # replaced

    with tags("user:eve"), pytest.raises(NotAllowed, match="its owner ada"):
        drafts.start_training(StartConfig(drafts=(edited,)))
    with tags("user:ada"):
        assert drafts.start_training(StartConfig(drafts=(edited,))) == [edited]
    state = prefect.read_flow_run(edited).state
    assert state is not None
    assert state.type is StateType.SCHEDULED
    assert row_of(edited)["status"] == "pending"
    with tags("user:ada"), pytest.raises(NotAllowed, match="no draft"):
        drafts.start_training(StartConfig(drafts=(edited,)))
    with tags("user:ada"), pytest.raises(NotAllowed, match="stop it, or wait"):
        removal.delete_training(DeleteConfig(training=edited), SITE)


def test_a_group_can_be_drafted_started_and_its_drafts_deleted(
    home: Path, prefect: SyncPrefectClient
) -> None:
    config = GroupConfig(name="drafted", grid={"seed": [1, 2, 3]}, draft=True)
    one, two, three = groups.start_group(config, IRIS, QUICK, SITE)
    assert removal.delete_training(DeleteConfig(training=three), SITE)[0].startswith("draft drafted 3")
    assert drafts.start_training(StartConfig(group="drafted")) == [one, two]
    assert {run.state_name for run in group_of(prefect, "drafted")} == {"Resuming"}


def test_a_copy_of_a_run_is_on_its_very_version_and_a_copy_of_a_flow_run_as_it_was_given(
    home: Path, mlflow: MlflowClient, prefect: SyncPrefectClient, tmp_path: Path
) -> None:
    run = trained(seed=1)
    copy = drafts.copy_training(
        CopyConfig(training=run.run_id, changes={"seed": 2, "max_iterations": 50}), SITE
    )
    parameters = prefect.read_flow_run(copy).parameters
    assert parameters["dataset"] == {"name": "iris", "version": run.dataset.version}
    assert parameters["training"]["seed"] == 2
    assert parameters["training"]["hyperparameters"]["max_iterations"] == 50

    of_copy = drafts.copy_training(CopyConfig(training=copy, changes={"max_iterations": None}), SITE)
    again = prefect.read_flow_run(of_copy)
    assert again.parameters["training"]["hyperparameters"] == {}
    assert f"copy-of:{copy}" in again.tags
    with pytest.raises(NotFound, match="MLflow has no run"):
        drafts.copy_training(CopyConfig(training="0" * 32), SITE)

    output, other = str(tmp_path / "model.zip"), str(tmp_path / "other.zip")
    written = drafts.draft_training(IRIS, QUICK.model_copy(update={"output": output}), DraftConfig(), SITE)
    end(prefect, written, StateType.COMPLETED)
    for changes, file in (({}, ""), ({"output": other}, other)):
        copy = drafts.copy_training(CopyConfig(training=written, changes=changes), SITE)
        assert prefect.read_flow_run(copy).parameters["training"]["output"] == file
    flow_run = mlflow.get_run(run.run_id).data.tags[FLOW_RUN_TAG]
    with pytest.raises(NotAllowed, match="not started by a deployment"):
        drafts.copy_training(CopyConfig(training=flow_run), SITE)
