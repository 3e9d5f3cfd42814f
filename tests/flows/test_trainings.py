"""The list of trainings, and their renaming, on real Prefect and MLflow servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect import tags

from flows import drafts, trainings
from flows.tensorboard import open_tensorboard
from flows.train import train_model
from tasks.data.config import DatasetChoice
from tasks.data.storage.access import DatasetCard
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotAllowed, NotFound
from tasks.launch.config import CopyConfig
from tasks.tensorboard.config import ViewConfig
from tasks.train.config import TrainConfig
from tasks.train.tags import FLOW_RUN_TAG, STATUS_TAG
from tasks.trainings import records
from tasks.trainings.config import ListConfig, RenameConfig
from tests.helpers.trained import iris_dataset
from tests.helpers.training_site import IRIS, QUICK, SITE, page, row_of, trained


def test_the_list_has_every_training_once_with_its_status_and_scores(
    home: Path, mlflow: MlflowClient
) -> None:
    run = trained(seed=3, experiment="listed")
    row = row_of(run.run_id, experiment="listed")
    assert (row["status"], row["algorithm"], row["user"]) == ("succeeded", "logistic_regression", "ada")
    assert row["dataset"] == str(run.dataset)
    assert float(row["validation"]) > 0.8
    assert row["flow run"].endswith(mlflow.get_run(run.run_id).data.tags[FLOW_RUN_TAG])

    first = mlflow.get_run(run.run_id)
    changed = {STATUS_TAG: "running", FLOW_RUN_TAG: "", "mlflow.runName": "a second"}
    made = mlflow.create_run(first.info.experiment_id, tags={**first.data.tags, **changed})
    assert row_of(made.info.run_id)["status"] == "running"
    mlflow.set_terminated(made.info.run_id, "KILLED")
    assert row_of(made.info.run_id)["status"] == "aborted"

    def listed(**listing: Any) -> list[str]:
        return [
            row["id"] for row in trainings.list_trainings(ListConfig(experiment="listed", **listing), SITE)
        ]

    assert listed(status=("aborted",)) == [made.info.run_id]
    assert listed(sort="oldest") == [run.run_id, made.info.run_id]
    assert listed(sort="best") == [run.run_id, made.info.run_id]
    assert listed(text="second") == [made.info.run_id]
    assert listed(dataset="iri") == []
    assert len(listed(dataset="iris")) == 2
    assert len(listed(limit=1)) == 1
    assert listed(user="nobody") == []

    assert "Only the newest" not in page("trainings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "MOST_RUNS", 1)
        found = listed()
    assert made.info.run_id in found
    assert run.run_id not in found
    assert "Only the newest 1 were looked through" in page("trainings")


def test_a_result_from_the_cache_is_a_line_that_names_the_run_it_came_from(home: Path) -> None:
    run = trained(seed=4, experiment="reused")
    with tags("group:again"):
        assert trained(seed=4, experiment="reused") == run
    (row,) = trainings.list_trainings(ListConfig(group="again"), SITE)
    assert (row["status"], row["experiment"]) == ("succeeded", "reused")
    assert run.run_id in row["detail"]
    assert float(row["validation"]) > 0.8


def test_trainings_on_private_data_are_not_there_for_others(home: Path) -> None:
    store = DatasetStore(str(home / "store"), new_card=DatasetCard(owner="ada", visibility="private"))
    iris_dataset(store, name="secret")
    with tags("user:ada"):
        run = train_model(DatasetChoice(name="secret"), QUICK, site=SITE)
        assert row_of(run.run_id)["status"] == "succeeded"
    with tags("user:eve"):
        assert trainings.list_trainings(ListConfig(dataset="secret"), SITE) == []
        with pytest.raises(NotFound):
            drafts.copy_training(CopyConfig(training=run.run_id), SITE)
        for start in (run.run_id, run.model_uri):
            with pytest.raises(NotFound, match=f"MLflow has no (run|model) {start}"):
                train_model(IRIS, TrainConfig(algorithm="mlp", start_from=start), SITE)
        with pytest.raises(NotFound, match="MLflow has no run"):
            open_tensorboard(ViewConfig(runs=(run.run_id,)), SITE)


def test_a_training_is_renamed_and_has_up_to_ten_tags(home: Path, mlflow: MlflowClient) -> None:
    run = trained(seed=5)
    nine = {f"tag {number}": "x" for number in range(9)}
    with tags("user:ada"):
        named = RenameConfig(training=run.run_id, name="The good one", description="Look!", tags=nine)
        assert trainings.rename_training(named, SITE) == "The good one"
        trainings.rename_training(RenameConfig(training=run.run_id, tags={"tag 0": "", "more": "y"}), SITE)
        with pytest.raises(InvalidSettings, match="up to 10"):
            trainings.rename_training(RenameConfig(training=run.run_id, tags={"a": "1", "b": "2"}), SITE)
    with pytest.raises(NotAllowed, match="its owner ada"):
        trainings.rename_training(RenameConfig(training=run.run_id, name="Mine"), SITE)
    found = mlflow.get_run(run.run_id)
    assert found.info.run_name == "The good one"
    assert found.data.tags["mlflow.note.content"] == "Look!"
    assert "tag 0" not in found.data.tags
    assert found.data.tags["more"] == "y"
    assert [row["id"] for row in trainings.list_trainings(ListConfig(text="the good"), SITE)] == [run.run_id]
