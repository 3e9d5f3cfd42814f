"""Groups, drafts, copies, templates, the list, renaming and deletion, on real Prefect and MLflow servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect import flow, tags
from prefect.artifacts import Artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import load_flow_from_entrypoint
from prefect.states import Scheduled
from prefect.utilities.callables import parameter_schema

from blocks.dask_cluster import DaskCluster
from blocks.docs_site import DocsSite
from blocks.endpoint_host import EndpointHost
from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from flows import drafts, groups, removal, templates, trainings
from flows.ingest import ingest_data
from flows.preprocess import preprocess_data
from flows.tensorboard import open_tensorboard
from flows.train import train_model
from tasks.data.config import DatasetChoice, IngestConfig, PreprocessConfig, SplitConfig
from tasks.data.storage.access import DatasetCard
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotAllowed, NotFound
from tasks.launch import task as launch_stage
from tasks.launch.config import CopyConfig, DraftConfig, GroupConfig, StartConfig
from tasks.refs import Problem, RunRef
from tasks.removal.config import DeleteConfig, ExperimentConfig
from tasks.serve.registry import Registry
from tasks.serve.versions import VersionStore
from tasks.templates.config import TemplateConfig, TemplateData
from tasks.tensorboard.config import ViewConfig
from tasks.train.config import TrainConfig
from tasks.train.own_code.config import OwnCode
from tasks.train.tags import FLOW_RUN_TAG, STATUS_TAG
from tasks.trainings import records
from tasks.trainings.config import ListConfig, RenameConfig
from tasks.trainings.status import DRAFT
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.trained import iris_dataset

SITE = "trainings-suite"
IRIS = DatasetChoice(name="iris")
QUICK = TrainConfig(algorithm="logistic_regression")
KEPT_NOT_SERVED = "import os; open(os.environ['EM_MODEL_DIR'] + '/notes.txt', 'w').write('x')\n"
"""Own code whose model cannot be served."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("trainings")
    process = MlflowProcess(folder)
    process.start()
    MlflowServer(tracking_uri=process.uri).save(SITE, overwrite=True)
    ObjectStore(url=str(folder / "store")).save(SITE, overwrite=True)
    DocsSite(folder=str(folder / "docs"), url="http://127.0.0.1:1").save(SITE, overwrite=True)
    DaskCluster(n_workers=1).save(SITE, overwrite=True)
    EndpointHost(home=str(folder)).save(SITE, overwrite=True)
    iris_dataset(DatasetStore(str(folder / "store")))
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name="local", type="process"))
        for queue in ("low", "default", "training"):
            if queue not in {one.name for one in client.read_work_queues(work_pool_name="local")}:
                client.create_work_queue(queue, work_pool_name="local")
        _deploy(client, "flows.train.train_model", {"site": SITE}, queue="training")
        _deploy(client, "flows.ingest.ingest_data", {"site": SITE})
    yield folder
    process.stop()


@pytest.fixture(autouse=True)
def _data_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_HOME", str(home))


@pytest.fixture
def mlflow(home: Path) -> MlflowClient:
    return MlflowServer.load(SITE).client()  # type: ignore[union-attr]


@pytest.fixture
def prefect() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def _deploy(
    client: SyncPrefectClient, entrypoint: str, parameters: dict[str, Any], queue: str = "default"
) -> None:
    found = load_flow_from_entrypoint(entrypoint)
    client.create_deployment(
        flow_id=client.create_flow_from_name(found.name),
        name="step",
        entrypoint=entrypoint,
        parameters=parameters,
        parameter_openapi_schema=parameter_schema(found).model_dump_for_openapi(),
        enforce_parameter_schema=True,
        work_pool_name="local",
        work_queue_name=queue,
    )


def _group(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"group:{name}"]))
    return client.read_flow_runs(flow_run_filter=wanted)


def _end(client: SyncPrefectClient, run_id: str, state: StateType) -> None:
    client.set_flow_run_state(run_id, State(type=state), force=True)


def _trained(seed: int, experiment: str = "default") -> RunRef:
    """One training as a flow run of ada's."""
    with tags("user:ada"):
        return train_model(IRIS, QUICK.model_copy(update={"seed": seed, "experiment": experiment}), site=SITE)


def _of(run_id: str, **listing: Any) -> dict[str, str]:
    return {row["id"]: row for row in trainings.list_trainings(ListConfig(**listing), SITE)}[run_id]


def _page(key: str) -> str:
    page = Artifact.get(key)
    assert page is not None
    return str(page.data)


def test_a_group_queues_in_order_and_again_adds_only_what_it_lacks(
    home: Path, prefect: SyncPrefectClient
) -> None:
    config = GroupConfig(name="rates", grid={"algorithm": ["mlp", "random_forest"], "seed": [0, 1]})
    with tags("user:ada", "other"):
        ids = groups.start_group(config, IRIS, TrainConfig(), SITE)
    runs = {str(run.id): run for run in _group(prefect, "rates")}
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
    assert "4 pending" in _page("group")

    _end(prefect, ids[0], StateType.COMPLETED)
    _end(prefect, ids[1], StateType.FAILED)
    more = config.model_copy(update={"grid": {**config.grid, "seed": [0, 1, 2]}})
    again = groups.start_group(more, IRIS, TrainConfig(), SITE)
    assert (again[0], again[3:5]) == (ids[0], ids[2:4])  # succeeded, and still waiting
    assert again[1] != ids[1]  # failed: once more
    assert len(_group(prefect, "rates")) == 4 + 1 + 2

    with tags("user:eve"), pytest.raises(NotAllowed):
        groups.stop_group("rates", SITE)
    with tags("user:ada"):
        assert set(groups.stop_group("rates", SITE)) >= set(ids[2:4])
    words = [row["status"] for row in trainings.list_trainings(ListConfig(group="rates"), SITE)]
    assert sorted(words) == ["aborted"] * 5 + ["failed", "succeeded"]
    with pytest.raises(NotFound, match="no group nowhere"):
        groups.stop_group("nowhere", SITE)


def test_one_flow_run_never_starts_a_set_twice(home: Path, prefect: SyncPrefectClient) -> None:
    config = GroupConfig(name="retried", sets=({"seed": 1}, {"seed": 2}))

    @flow
    def killed_and_retried() -> tuple[list[str], list[str]]:
        first = launch_stage.start_group.fn(config, IRIS, QUICK, SITE)
        _end(prefect, first[0], StateType.CRASHED)  # it ended before the retry
        return first, launch_stage.start_group.fn(config, IRIS, QUICK, SITE)

    first, second = killed_and_retried()
    assert first == second
    assert len(_group(prefect, "retried")) == 2


def test_a_group_with_faults_says_all_of_them_and_starts_nothing(
    home: Path, prefect: SyncPrefectClient
) -> None:
    faulty = GroupConfig(
        name="faulty",
        sets=(
            {"algorithm": "mlp", "learning_rate": -1},
            {"algorithm": "mlp", "epohcs": 3},
            {"dataset.name": "nowhere"},
            {"algorithm": "six_layer_cnn"},
            {"seed": 1},
            {"seed": 1},
        ),
    )
    with pytest.raises(InvalidSettings) as told:
        groups.start_group(faulty, IRIS, TrainConfig(), SITE)
    for part in (
        "5 of 6 sets",
        "'learning_rate' is -1",
        "did you mean 'epochs'",
        "no dataset named nowhere",
        "cannot learn table-classification",
        "set 6 (seed=1): it is the same as set 5",
    ):
        assert part in str(told.value)
    with pytest.raises(NotFound, match=r"no work queue fast.*Allowed: default, low"):
        groups.start_group(GroupConfig(name="faulty", sets=({"seed": 1},), queue="fast"), IRIS, QUICK, SITE)
    with pytest.raises(InvalidSettings, match="trains nothing"):
        groups.start_group(GroupConfig(name="faulty", sets=({},), deployment="ingest/step"), site=SITE)
    with pytest.raises(NotFound, match=r"Allowed: .*train/step"):
        groups.start_group(GroupConfig(name="faulty", sets=({},), deployment="train/none"), site=SITE)
    assert _group(prefect, "faulty") == []


def test_a_draft_waits_until_it_is_started_and_is_edited_by_a_copy(
    home: Path, prefect: SyncPrefectClient
) -> None:
    with tags("user:ada"):
        draft = drafts.draft_training(IRIS, QUICK, DraftConfig(name="mine"), SITE)
        assert _of(draft)["status"] == "draft"
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
    assert _of(edited)["status"] == "pending"
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
    assert {run.state_name for run in _group(prefect, "drafted")} == {"Resuming"}


def test_a_copy_of_a_run_is_on_its_very_version_and_a_copy_of_a_flow_run_as_it_was_given(
    home: Path, mlflow: MlflowClient, prefect: SyncPrefectClient, tmp_path: Path
) -> None:
    run = _trained(seed=1)
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
    _end(prefect, written, StateType.COMPLETED)
    for changes, file in (({}, ""), ({"output": other}, other)):
        copy = drafts.copy_training(CopyConfig(training=written, changes=changes), SITE)
        assert prefect.read_flow_run(copy).parameters["training"]["output"] == file
    flow_run = mlflow.get_run(run.run_id).data.tags[FLOW_RUN_TAG]
    with pytest.raises(NotAllowed, match="not started by a deployment"):
        drafts.copy_training(CopyConfig(training=flow_run), SITE)


def test_the_list_has_every_training_once_with_its_status_and_scores(
    home: Path, mlflow: MlflowClient
) -> None:
    run = _trained(seed=3, experiment="listed")
    row = _of(run.run_id, experiment="listed")
    assert (row["status"], row["algorithm"], row["user"]) == ("succeeded", "logistic_regression", "ada")
    assert row["dataset"] == str(run.dataset)
    assert float(row["validation"]) > 0.8
    assert row["flow run"].endswith(mlflow.get_run(run.run_id).data.tags[FLOW_RUN_TAG])

    first = mlflow.get_run(run.run_id)
    changed = {STATUS_TAG: "running", FLOW_RUN_TAG: "", "mlflow.runName": "a second"}
    made = mlflow.create_run(first.info.experiment_id, tags={**first.data.tags, **changed})
    assert _of(made.info.run_id)["status"] == "running"
    mlflow.set_terminated(made.info.run_id, "KILLED")
    assert _of(made.info.run_id)["status"] == "aborted"

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

    assert "Only the newest" not in _page("trainings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "MOST_RUNS", 1)
        found = listed()
    assert made.info.run_id in found
    assert run.run_id not in found
    assert "Only the newest 1 were looked through" in _page("trainings")


def test_a_result_from_the_cache_is_a_line_that_names_the_run_it_came_from(home: Path) -> None:
    run = _trained(seed=4, experiment="reused")
    with tags("group:again"):
        assert _trained(seed=4, experiment="reused") == run
    (row,) = trainings.list_trainings(ListConfig(group="again"), SITE)
    assert (row["status"], row["experiment"]) == ("succeeded", "reused")
    assert run.run_id in row["detail"]
    assert float(row["validation"]) > 0.8


def test_trainings_on_private_data_are_not_there_for_others(home: Path) -> None:
    store = DatasetStore(str(home / "store"), new_card=DatasetCard(owner="ada", visibility="private"))
    iris_dataset(store, name="secret")
    with tags("user:ada"):
        run = train_model(DatasetChoice(name="secret"), QUICK, site=SITE)
        assert _of(run.run_id)["status"] == "succeeded"
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
    run = _trained(seed=5)
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


def test_a_training_in_use_is_not_deleted_and_the_mend_is_said(
    home: Path, mlflow: MlflowClient, prefect: SyncPrefectClient
) -> None:
    run = _trained(seed=6)
    mlflow.create_registered_model("flowers")
    version = mlflow.create_model_version(
        "flowers", run.model_uri, run.run_id, model_id=run.model_uri.removeprefix("models:/")
    )
    mlflow.set_registered_model_alias("flowers", "champion", version.version)
    record = home / "endpoints" / "roses" / "endpoint.json"
    record.parent.mkdir(parents=True)
    place = {"host": "127.0.0.1", "port": 1, "url": "", "tracking_uri": "", "created_at": ""}
    secret = {"token_file": "", "token_sha256": ""}
    roses = {"name": "roses", "model": "flowers", "alias": "champion", **place, **secret}
    record.write_text(json.dumps(roses))
    assert _of(run.run_id)["status"] == "published"
    with tags("user:ada"):
        with pytest.raises(
            NotAllowed, match=r"flowers v1 \(champion\), which the endpoints roses serve.*delete"
        ):
            removal.delete_training(DeleteConfig(training=run.run_id), SITE)
        tried = removal.delete_training(DeleteConfig(training=run.run_id, dry_run=True), SITE)
    assert tried[0].startswith(f"MLflow run {run.run_id}")
    assert any(line.startswith("in the way: it is the registered model flowers v1") for line in tried)
    with Registry(str(mlflow.tracking_uri)) as registry:  # as the endpoint's process does it
        versions = VersionStore(record.parent / "versions", "flowers")
        versions.place(registry.version_of("flowers", "champion"), registry)
        versions.mark_serving(1)
    mlflow.delete_model_version("flowers", "1")
    assert _of(run.run_id)["status"] == "succeeded"
    with tags("user:ada"):
        with pytest.raises(NotAllowed, match=r"the endpoints roses answer with its model.*stop-endpoint"):
            removal.delete_training(DeleteConfig(training=run.run_id), SITE)
        record.write_text(json.dumps({**roses, "enabled": False}))  # what stopping it writes
        tried = removal.delete_training(DeleteConfig(training=run.run_id, dry_run=True), SITE)
    assert not any(line.startswith("in the way") for line in tried)

    tomorrow = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
    draft = State(type=StateType.PAUSED, name=DRAFT)
    for state, start in ((draft, run.run_id), (draft, run.model_uri), (tomorrow, run.model_uri)):
        onward = prefect.create_flow_run_from_deployment(
            prefect.read_deployment_by_name("train/step").id,
            parameters={"training": {"start_from": start}},
            state=state,
        )
        with tags("user:ada"), pytest.raises(NotAllowed, match=f"{onward.name} start from its weights"):
            removal.delete_training(DeleteConfig(training=run.run_id), SITE)
        prefect.delete_flow_run(onward.id)

    mlflow.update_run(run.run_id, status="RUNNING")
    with tags("user:ada"), pytest.raises(NotAllowed, match="still running"):
        removal.delete_training(DeleteConfig(training=run.run_id), SITE)
    mlflow.set_terminated(run.run_id)
    with pytest.raises(NotAllowed, match="its owner ada"):
        removal.delete_training(DeleteConfig(training=run.run_id), SITE)


def test_a_deletion_is_undone_and_one_for_good_is_not(home: Path, mlflow: MlflowClient) -> None:
    run = _trained(seed=7, experiment="doomed")
    flow_run = mlflow.get_run(run.run_id).data.tags[FLOW_RUN_TAG]
    files = home / "artifacts"
    there = {path.parent for path in files.rglob("training.json") if run.run_id in str(path)}
    assert len(there) == 1
    with tags("user:ada"):
        assert removal.delete_training(DeleteConfig(training=flow_run), SITE) == [
            f"MLflow run {run.run_id} ({run.algorithm} on iris)"
        ]
        assert trainings.list_trainings(ListConfig(experiment="doomed"), SITE) == []
        with pytest.raises(NotFound, match="restore-training"):
            drafts.copy_training(CopyConfig(training=run.run_id), SITE)
        assert removal.restore_training(run.run_id, SITE) == [run.run_id]
        assert _of(run.run_id)["status"] == "succeeded"
        with pytest.raises(NotAllowed, match="is not deleted"):
            removal.restore_training(run.run_id, SITE)

        folder = home / "work" / "train" / "left"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"run_id": run.run_id}))
        copy = home / "work" / "models" / run.model_uri.removeprefix("models:/")
        assert copy.is_dir()  # its evaluation has fetched it
        gone = removal.delete_training(DeleteConfig(training=run.run_id, for_good=True), SITE)
        model = run.model_uri.removeprefix("models:/")
        assert f"logged model {model} and its files" in gone
        assert any("artifact training-summary" in line for line in gone)
        with pytest.raises(NotAllowed, match="files are gone"):
            removal.restore_training(run.run_id, SITE)
    assert not any(path.exists() for path in there)
    assert [path for path in files.rglob("*") if model in str(path) and path.is_file()] == []
    assert not folder.exists()
    assert not copy.exists()
    assert trainings.list_trainings(ListConfig(experiment="doomed"), SITE) == []


def test_an_experiment_goes_when_it_is_empty_and_its_name_is_free(home: Path, mlflow: MlflowClient) -> None:
    run = _trained(seed=8, experiment="short")
    with pytest.raises(NotAllowed, match=r"has 1 trainings.*delete-training"):
        removal.delete_experiment(ExperimentConfig(name="short"), SITE)
    with tags("user:ada"):
        removal.delete_training(DeleteConfig(training=run.run_id), SITE)
    assert removal.delete_experiment(ExperimentConfig(name="short", dry_run=True), SITE) == [
        "MLflow experiment short"
    ]
    removal.delete_experiment(ExperimentConfig(name="short"), SITE)
    with pytest.raises(NotFound, match="no experiment short"):
        removal.delete_experiment(ExperimentConfig(name="short"), SITE)
    taken = mlflow.create_experiment("short")
    with pytest.raises(NotAllowed, match="a new one took its name"):
        removal.restore_experiment("short", SITE)
    mlflow.rename_experiment(taken, "taken")
    with tags("user:ada"), pytest.raises(NotAllowed, match="restore-experiment"):
        removal.restore_training(run.run_id, SITE)
    restored = removal.restore_experiment("short", SITE)
    assert mlflow.get_experiment_by_name("short").experiment_id == restored
    assert mlflow.get_run(run.run_id).info.lifecycle_stage == "deleted"  # it was before
    with tags("user:ada"):
        assert removal.restore_training(run.run_id, SITE) == [run.run_id]


def test_a_template_asks_for_the_data_alone_and_does_what_the_training_did(
    home: Path, prefect: SyncPrefectClient, mlflow: MlflowClient, tmp_path: Path
) -> None:
    iris = IngestConfig(source="sample:iris", name="flowers", problem=Problem.TABLE_CLASSIFICATION)
    ingest_data(iris, SITE)
    split = SplitConfig(train_percent=60, validation_percent=20, test_percent=20, seed=5)
    preprocess_data(DatasetChoice(name="flowers", version="latest-raw"), PreprocessConfig(split=split), SITE)
    with tags("user:ada"):
        run = train_model(DatasetChoice(name="flowers"), TrainConfig(seed=11), SITE)
        name = templates.save_template(TemplateConfig(training=run.run_id, name="like-flowers"), SITE)
        with pytest.raises(NotAllowed, match="set replace"):
            templates.save_template(TemplateConfig(training=run.run_id, name="like-flowers"), SITE)
        with pytest.raises(NotAllowed, match=r"the templates like-flowers came from.*delete-template"):
            removal.delete_training(DeleteConfig(training=run.run_id), SITE)
        mlflow.update_run(run.run_id, status="RUNNING")
        with pytest.raises(InvalidSettings, match="and has no model"):
            templates.save_template(TemplateConfig(training=run.run_id, name="too-early"), SITE)
        mlflow.set_terminated(run.run_id)
    deployment = prefect.read_deployment_by_name(name)
    assert list(deployment.parameter_openapi_schema["properties"]) == ["data"]
    assert run.run_id in (deployment.description or "")
    assert deployment.entrypoint == "flows.templates.train_from_template"
    assert (deployment.work_pool_name, deployment.work_queue_name) == ("local", "training")  # of train/step
    assert deployment.parameters["training"]["algorithm"] == run.algorithm == "logistic_regression"
    assert deployment.parameters["preprocessing"]["split"] == split.model_dump(mode="json")
    # Other tests leave templates of their own.
    (line,) = (one for one in templates.list_templates() if one["template"] == "like-flowers")
    assert (line["from run"], line["user"]) == (run.run_id, "ada")

    fixed = load_flow_from_entrypoint(deployment.entrypoint or "").validate_parameters(
        {**deployment.parameters, "data": {"name": "more-flowers", "source": "sample:iris"}}
    )
    again = templates.train_from_template(**fixed)
    assert (again.algorithm, again.dataset.name) == (run.algorithm, "more-flowers")
    store = DatasetStore(str(home / "store"))
    first, second = store.open(run.dataset), store.open(again.dataset)
    assert (first.splits, first.parameters) == (second.splits, second.parameters)
    with pytest.raises(NotFound, match="no dataset named nowhere"):
        templates.train_from_template(**{**fixed, "data": TemplateData(name="nowhere")})
    (tmp_path / "train.py").write_text(KEPT_NOT_SERVED)
    own = TrainConfig(own_code=OwnCode(source=str(tmp_path)))
    kept = templates.train_from_template(
        **{**fixed, "data": TemplateData(name="more-flowers"), "training": own}
    )
    assert (kept.algorithm, kept.model_uri) == ("own_code", "")  # it ends well without an evaluation
    wrong = {**fixed, "problem": Problem.IMAGE_CLASSIFICATION, "data": TemplateData(name="flowers")}
    with pytest.raises(InvalidSettings, match="the template is for image-classification"):
        templates.train_from_template(**wrong)

    with tags("user:eve"), pytest.raises(NotAllowed, match="its owner ada"):
        templates.delete_template("like-flowers")
    with tags("user:ada"):
        templates.delete_template("like-flowers")
    assert "like-flowers" not in {one["template"] for one in templates.list_templates()}
    with pytest.raises(NotFound, match="no template like-flowers"):
        templates.delete_template("like-flowers")
