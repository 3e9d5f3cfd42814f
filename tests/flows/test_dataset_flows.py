"""The flows of stored datasets on a real server: what they show, what they refuse, and to whom."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

import mlflow
import pytest
import s3fs
from mlflow import MlflowClient
from prefect import flow, tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterTags,
)

from blocks.dask_cluster import DaskCluster
from blocks.docs_site import DocsSite
from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from flows.annotate import assign_annotation
from flows.datasets import (
    browse_dataset,
    dataset_template,
    delete_dataset,
    export_dataset,
    list_datasets,
    sample_dataset,
    share_dataset,
)
from flows.ingest import ingest_data
from flows.preprocess import preprocess_data
from flows.train import train_model
from flows.tune import tune_model
from flows.validate import validate_data
from tasks.annotate.config import AssignConfig
from tasks.data import task as data_stage
from tasks.data.config import DatasetChoice, IngestConfig, PreprocessConfig, ValidateConfig
from tasks.data.config_store import (
    BrowseConfig,
    DeleteConfig,
    ExportConfig,
    LayoutName,
    ListConfig,
    SampleConfig,
    ShareConfig,
    TemplateConfig,
)
from tasks.data.export import template
from tasks.data.layouts import LAYOUTS
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings, NotAllowed, NotFound
from tasks.refs import DatasetRef, Problem
from tasks.train.config import TrainConfig
from tasks.train.train import train
from tests.helpers.s3_server import empty_folder, s3_server
from tests.helpers.stored_datasets import png, store_images
from tests.helpers.trained import iris_dataset

SITE = "dataset-suite"
URL = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("datasets")
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    MlflowClient(uri).create_experiment("default", artifact_location=str(folder / "artifacts"))
    MlflowServer(tracking_uri=uri).save(SITE, overwrite=True)
    ObjectStore(url=str(folder / "store"), source_roots=[str(folder)]).save(SITE, overwrite=True)
    DocsSite(folder=str(folder / "docs"), url=URL).save(SITE, overwrite=True)
    DaskCluster(n_workers=1).save(SITE, overwrite=True)
    yield folder
    mlflow.set_tracking_uri(before)


@pytest.fixture
def store(home: Path) -> DatasetStore:
    return DatasetStore(str(home / "store"))


@pytest.fixture
def name() -> str:
    return f"set-{uuid4().hex[:8]}"


def as_user(user: str, act: Callable[..., Any], *arguments: Any) -> Any:
    with tags(f"user:{user}"):
        return act(*arguments, site=SITE)


def ran(act: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, Any]]:
    """What a flow gives, and the artifacts of its run, which is found by a tag of its own."""
    mark = f"mark-{uuid4().hex[:8]}"
    with tags(mark):
        result = act(*arguments, site=SITE)
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[mark])))
        only = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        return result, {one.key or one.type or "": one for one in client.read_artifacts(artifact_filter=only)}


def pictures(store: DatasetStore, name: str, each: int = 3) -> DatasetRef:
    rows: dict[str, list[tuple[str, int | None]]] = {
        split: [(f"{split}/{'ab'[i % 2]}/{i}.png", i % 2) for i in range(2 * each)]
        for split in ("train", "test")
    }
    return store_images(store, name, rows, ("a", "b"))


def png_folder(home: Path, name: str) -> IngestConfig:
    for split in ("train", "validation", "test"):
        for place, label in enumerate(("cat", "dog")):
            folder = home / name / split / label
            folder.mkdir(parents=True)
            for number in range(4):
                shade = 13 * number + 60 * place + {"train": 0, "validation": 4, "test": 8}[split]
                (folder / f"{number}.png").write_bytes(png(shade))
    return IngestConfig(source=str(home / name), name=name)


def test_the_list_is_filtered_sorted_and_limited(store: DatasetStore, name: str) -> None:
    small, large = f"{name}-small", f"{name}-large"
    pictures(store, small)
    raw = pictures(store, large, each=20)
    iris_dataset(store, f"{name}-iris")

    def names(**how: Any) -> list[str]:
        rows = list_datasets(ListConfig(text=name, **how), site=SITE)
        return [row["dataset"].removeprefix(f"{name}-") for row in rows]

    assert names() == ["iris", "large", "small"]
    assert names(sort="name") == ["iris", "large", "small"]
    assert names(sort="oldest") == ["small", "large", "iris"]
    assert names(sort="rows") == ["iris", "large", "small"]
    assert names(sort="rows", limit=1) == ["iris"]
    assert names(problem=Problem.TABLE_CLASSIFICATION) == ["iris"]
    assert names(owner="nobody") == []
    assert names(kind="prepared") == []
    store_images(store, large, {"train": [("x.png", 0), ("y.png", 1)]}, ("a", "b"), parent=raw.version)
    assert names(kind="prepared") == ["large"]
    (row,) = list_datasets(ListConfig(text=large), site=SITE)
    assert (row["versions"], row["kind"], row["access"]) == ("2", "prepared", "shared")
    store.fs.pipe_file(f"{store.folder(large, raw.version)}/manifest.json", b"{")
    rows = list_datasets(ListConfig(every_version=True), site=SITE)
    assert [row["kind"] for row in rows if row["dataset"] == large] == ["prepared", "damaged"]


def test_samples_are_a_picture_or_a_table(store: DatasetStore, home: Path, name: str) -> None:
    pictures(store, name)
    choice = DatasetChoice(name=name)
    sampling = SampleConfig(count=2, label="b")
    _, shown = ran(sample_dataset, choice, sampling)
    address = shown["sample-images"].data
    assert (home / "docs" / str(address).removeprefix(f"{URL}/")).read_bytes().startswith(b"\x89PNG")
    assert "2 rows" in shown["sample-images"].description
    with pytest.raises(NotFound, match="no rows that can be chosen by a class named dog"):
        sample_dataset(choice, SampleConfig(label="dog"), site=SITE)
    with pytest.raises(NotFound, match="split named validation"):
        sample_dataset(choice, SampleConfig(split="validation"), site=SITE)

    iris_dataset(store, f"{name}-iris")
    _, shown = ran(sample_dataset, DatasetChoice(name=f"{name}-iris"), SampleConfig(count=3, split="test"))
    assert shown["sample-rows"].data.count("csv#test") == 3


def test_an_export_is_a_link_to_a_zip_file_or_a_file_of_ones_own(home: Path, name: str) -> None:
    ref = ingest_data(png_folder(home, name), site=SITE)
    choice = DatasetChoice(name=name)
    link, shown = ran(export_dataset, choice, ExportConfig(splits=("train",)))
    assert link in shown["export"].data
    file = home / "docs" / link.removeprefix(f"{URL}/")
    assert file.name == f"{name}-{ref.version}.zip"
    with zipfile.ZipFile(file) as packed:
        assert packed.testzip() is None
        assert any(member.endswith(".png") for member in packed.namelist())
        assert not any(member.startswith("test/") for member in packed.namelist())

    target = home / f"{name}.zip"
    assert export_dataset(choice, ExportConfig(destination=str(target)), site=SITE) == str(target)
    with zipfile.ZipFile(target) as packed:
        assert sum(member.endswith(".png") for member in packed.namelist()) == 24
    before = target.read_bytes()
    with pytest.raises(InvalidSettings, match="There is a file at"):
        export_dataset(choice, ExportConfig(destination=str(target)), site=SITE)
    assert target.read_bytes() == before
    assert not list(home.glob(".*.zip.*"))


@pytest.mark.parametrize(
    ("destination", "error", "words"),
    [
        ("{home}/x.tar", InvalidSettings, "not the name of a zip file"),
        ("x.zip", InvalidSettings, "not an absolute path"),
        ("/etc/x.zip", NotAllowed, "Nothing is written to"),
        ("{home}/../x.zip", NotAllowed, "Nothing is written to"),
        ("{home}/.ssh/x.zip", NotAllowed, "Nothing is written to"),
        ("{home}/store/datasets/x.zip", NotAllowed, "Nothing is written to"),
        ("{home}/link/x.zip", NotAllowed, "Nothing is written to"),
        ("{home}/nowhere/x.zip", NotFound, "no folder"),
        ("http://127.0.0.1/x.zip", InvalidSettings, "is not an address"),
        ("simplecache::s3://a/x.zip", InvalidSettings, "is not an address"),
    ],
)
def test_exports_go_nowhere_else(
    store: DatasetStore, home: Path, name: str, destination: str, error: type[Exception], words: str
) -> None:
    pictures(store, name)
    if not (home / "link").exists():
        (home / "link").symlink_to("/etc")
    config = ExportConfig(destination=destination.format(home=home))
    with pytest.raises(error, match=words):
        export_dataset(DatasetChoice(name=name), config, site=SITE)


def test_too_large_an_export_says_how_large(store: DatasetStore, name: str) -> None:
    pictures(store, name)
    with pytest.raises(InvalidData, match="more than the 1e-07 GiB allowed"):
        export_dataset(DatasetChoice(name=name), ExportConfig(max_gib=1e-7), site=SITE)
    with pytest.raises(NotFound, match="no split named holdout"):
        export_dataset(DatasetChoice(name=name), ExportConfig(splits=("holdout",)), site=SITE)


def test_a_template_is_ingested_as_it_is(home: Path, name: str) -> None:
    link, shown = ran(dataset_template, TemplateConfig())
    assert link in shown["template"].data
    file = home / "docs" / link.removeprefix(f"{URL}/")
    source = home / f"{name}.zip"
    source.write_bytes(file.read_bytes())
    assert ingest_data(IngestConfig(source=str(source), name=name), site=SITE).rows > 0


@pytest.mark.parametrize("problem", [Problem.TEXT_CLASSIFICATION, Problem.AUDIO_CLASSIFICATION])
def test_texts_and_sounds_are_shown_as_rows(home: Path, name: str, problem: Problem) -> None:
    source = home / f"{name}.zip"
    source.write_bytes(template("label-folders", problem))
    _, shown = ran(ingest_data, IngestConfig(source=str(source), name=name, problem=problem))
    page = shown["sample-rows"].data
    assert "| label |" in page
    if problem is Problem.AUDIO_CLASSIFICATION:
        (address, *_) = re.findall(rf"\({URL}/(datasets/[^)]+)\)", page)
        assert (home / "docs" / address).is_file()


def test_the_form_of_templates_offers_all_layouts() -> None:
    assert set(get_args(LayoutName)) == {layout.name for layout in LAYOUTS}


def test_a_version_that_a_training_refers_to_stays(store: DatasetStore, home: Path, name: str) -> None:
    kept, free = iris_dataset(store, name), iris_dataset(store, name, slice(0, 140))
    config = TrainConfig(algorithm="logistic_regression")
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    run = train(kept, config, store, client, home / f"work-{name}")
    for version in (kept.version, "all"):
        with pytest.raises(NotAllowed, match=f"1 trainings refer to .*{run.run_id}"):
            delete_dataset(DeleteConfig(name=name, version=version), site=SITE)
    store.verify(kept, deep=True)
    store.verify(free, deep=True)
    deleted, shown = ran(delete_dataset, DeleteConfig(name=name, version=free.version))
    assert deleted == [free.version]
    assert free.version in shown["deleted"].data
    with pytest.raises(NotFound, match="has no version"):
        delete_dataset(DeleteConfig(name=name, version=free.version), site=SITE)

    client.delete_run(run.run_id)
    assert delete_dataset(DeleteConfig(name=name, version="all"), site=SITE) == [kept.version]
    with pytest.raises(NotFound, match="no dataset named"):
        store.get(name)


def test_a_version_that_others_are_made_from_stays(store: DatasetStore, name: str) -> None:
    raw = pictures(store, name)
    made = store_images(store, name, {"train": [("a.png", 0), ("b.png", 1)]}, ("a", "b"), parent=raw.version)
    with pytest.raises(NotAllowed, match=f"made from {name}@{raw.version}: {name}@{made.version}"):
        delete_dataset(DeleteConfig(name=name, version=raw.version), site=SITE)
    assert delete_dataset(DeleteConfig(name=name, version="all"), site=SITE) == [made.version, raw.version]


def test_private_datasets_of_others_are_not_found_in_any_flow_nor_reused(
    store: DatasetStore, home: Path, name: str
) -> None:
    config = png_folder(home, name).model_copy(update={"private": True, "description": "cats and dogs"})
    raw = as_user("ada", ingest_data, config)
    choice = DatasetChoice(name=name)
    made = as_user("ada", preprocess_data, choice, PreprocessConfig())
    as_user("ada", validate_data, choice, ValidateConfig())
    card = store.card(name)
    assert (card.owner, card.visibility, card.description) == ("ada", "private", "cats and dogs")
    assert store.open(raw).owner == store.open(made).owner == "ada"

    flows: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (validate_data, (choice, ValidateConfig())),
        (preprocess_data, (choice, PreprocessConfig())),
        (train_model, (choice,)),
        (tune_model, (choice,)),
        (sample_dataset, (choice,)),
        (export_dataset, (choice,)),
        (share_dataset, (ShareConfig(name=name, owner="eve"),)),
        (delete_dataset, (DeleteConfig(name=name, version="all"),)),
        (assign_annotation, (choice, AssignConfig(annotators=["eve"]))),
    ]
    for act, arguments in flows:
        with pytest.raises(NotFound, match=f"There is no dataset named {name}"):
            as_user("eve", act, *arguments)
    assert name not in str(as_user("eve", list_datasets, ListConfig()))
    assert name in str(as_user("ada", list_datasets, ListConfig()))

    with pytest.raises(NotAllowed, match="cannot be used"):  # the same files, so the step was stored
        as_user("eve", ingest_data, config)
    for step, arguments in ((steal_preprocess, (raw,)), (steal_validate, (raw,))):
        with pytest.raises(NotFound, match="has no version"), tags("user:eve"):
            step(*arguments)
    assert as_user("ada", ingest_data, config) == raw


@flow
def steal_preprocess(ref: DatasetRef) -> DatasetRef:
    return data_stage.preprocess_dataset(ref, PreprocessConfig(), SITE)


@flow
def steal_validate(ref: DatasetRef) -> Any:
    return data_stage.validate_dataset(ref, ValidateConfig(), SITE)


def test_sharing_opens_a_dataset_for_reading_and_then_for_writing(
    store: DatasetStore, home: Path, name: str
) -> None:
    config = png_folder(home, name).model_copy(update={"private": True})
    as_user("ada", ingest_data, config)
    choice = DatasetChoice(name=name)
    sharing = ShareConfig(name=name, visibility="private", members=("bob",))
    as_user("ada", share_dataset, sharing)
    as_user("bob", sample_dataset, choice)
    with pytest.raises(NotAllowed, match="bob may not add versions"):
        as_user("bob", preprocess_data, choice, PreprocessConfig())
    with pytest.raises(NotAllowed, match="bob may not share"):
        as_user("bob", share_dataset, sharing)
    with pytest.raises(NotFound):
        as_user("eve", sample_dataset, choice)
    as_user("ada", share_dataset, sharing.model_copy(update={"writable": True}))
    made = as_user("bob", preprocess_data, choice, PreprocessConfig())
    assert store.open(made).owner == "bob"
    with pytest.raises(NotAllowed, match="bob may not delete"):
        as_user("bob", delete_dataset, DeleteConfig(name=name, version=made.version))
    as_user("ada", share_dataset, ShareConfig(name=name, owner="bob"))
    as_user("eve", sample_dataset, choice)
    assert store.card(name).owner == "bob"


def test_a_run_with_two_users_is_refused(name: str) -> None:
    with tags("user:ada", "user:bob"), pytest.raises(InvalidSettings, match="2 users"):
        list_datasets(ListConfig(), site=SITE)


def test_the_report_of_a_validation_is_shown_passed_failed_and_reused(home: Path, name: str) -> None:
    good = png_folder(home, name)
    ingest_data(good, site=SITE)
    for _ in range(2):  # the second time the step is reused
        _, shown = ran(validate_data, DatasetChoice(name=name), ValidateConfig())
        assert "fit for training" in shown["validation"].description
    with pytest.raises(InvalidData, match="must not be trained on"):
        validate_data(DatasetChoice(name=name), ValidateConfig(min_rows_per_class=1_000), site=SITE)


def test_an_expectation_suite_is_read_as_sources_are(home: Path, name: str) -> None:
    ingest_data(png_folder(home, name), site=SITE)
    suite = home / f"{name}.json"
    suite.write_text(
        '{"name": "mine", "expectations": [{"type": "expect_column_values_to_be_between", '
        '"kwargs": {"column": "image width", "min_value": 8, "max_value": 8}}]}'
    )
    config = ValidateConfig(suite=str(suite))
    validate_data(DatasetChoice(name=name), config, site=SITE)
    suite.write_text(suite.read_text().replace("8", "9"))  # the same path: the step must not be reused
    with pytest.raises(InvalidData, match="must not be trained on"):
        validate_data(DatasetChoice(name=name), config, site=SITE)
    with pytest.raises(NotAllowed):
        validate_data(DatasetChoice(name=name), ValidateConfig(suite="/etc/hostname"), site=SITE)


def test_rows_are_added_and_browsed(
    home: Path, store: DatasetStore, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = png_folder(home, name)
    with pytest.raises(NotFound, match="that rows could be added to"):
        as_user("ada", ingest_data, config.model_copy(update={"add": True}))
    first = as_user("ada", ingest_data, config)
    (home / name / "train" / "ant").mkdir()
    (home / name / "train" / "ant" / "1.png").write_bytes(png(250))
    more = config.model_copy(update={"add": True})
    with pytest.raises(NotAllowed, match="may not add versions"):
        as_user("eve", ingest_data, more)
    second = as_user("ada", ingest_data, more)
    assert store.open(second).parent == first.version
    assert second.rows == first.rows + 1
    assert as_user("ada", ingest_data, more) == second  # the newest is another now; nothing comes to it
    with caplog.at_level("INFO"):
        assert as_user("ada", ingest_data, more) == second
    assert "Step ingest reused" in caplog.text
    as_user("ada", delete_dataset, DeleteConfig(name=name, version=second.version))
    third = as_user("ada", ingest_data, more)  # not reused: what it was is gone
    assert store.open(third).parent == first.version

    found, shown = ran(browse_dataset, DatasetChoice(name=name), BrowseConfig(path="train"))
    assert [(line["folder"], line["rows"]) for line in found] == [("ant/", "1"), ("cat/", "4"), ("dog/", "4")]
    assert "9 rows" in shown["content"].description
    items, _ = ran(browse_dataset, DatasetChoice(name=name), BrowseConfig(path="**/1.png", label="ant"))
    assert [(line["id"], line["label"]) for line in items] == [("train/ant/1.png", "ant")]


def test_what_takes_longer_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_stage, "PROGRESS_AFTER_S", 0.0)
    monkeypatch.setattr(data_stage, "PROGRESS_EVERY_S", 0.0)

    @flow
    def work(site: str) -> None:
        with data_stage.shown("Counting") as progress:
            for done in range(1, 5):
                progress(done, 4)

    _, shown = ran(work)
    assert (shown["progress"].data, shown["progress"].description) == (100.0, "Counting")


@pytest.mark.slow
def test_everything_works_on_an_object_store(home: Path, name: str) -> None:
    with s3_server() as options, empty_folder(options) as url:
        site = f"{SITE}-s3"
        ObjectStore(url=f"{url}/store", options=options).save(site, overwrite=True)
        for kind in (DocsSite, DaskCluster, MlflowServer):
            kind.load(SITE).save(site, overwrite=True)  # type: ignore[union-attr]
        source = png_folder(home, name)
        remote = s3fs.S3FileSystem(use_listings_cache=False, **options)
        for file in Path(source.source).rglob("*.png"):
            remote.pipe_file(f"{url}/{name}/{file.relative_to(source.source)}", file.read_bytes())

        with tags("user:ada"):
            config = source.model_copy(update={"source": f"{url}/{name}", "private": True})
            raw = ingest_data(config, site=site)
            choice = DatasetChoice(name=name)
            validate_data(choice, ValidateConfig(), site=site)
            made = preprocess_data(choice, PreprocessConfig(), site=site)
            sample_dataset(choice, SampleConfig(count=2), site=site)
            target = f"{url}/exports/{name}.zip"
            assert export_dataset(choice, ExportConfig(destination=target), site=site) == target
            assert ingest_data(config, site=site) == raw
        with zipfile.ZipFile(io.BytesIO(remote.cat_file(target))) as packed:
            assert sum(member.endswith(".png") for member in packed.namelist()) == raw.rows == made.rows
        for address in (f"{url}/store/datasets/{name}", f"{url}/store/datasets/{name}/{raw.version}/data"):
            with pytest.raises(NotFound):  # by its address nobody gets at what is private
                ingest_data(IngestConfig(source=address, name=f"{name}-taken"), site=site)
        with tags("user:eve"), pytest.raises(NotFound, match="There is no dataset"):
            export_dataset(choice, ExportConfig(), site=site)
        with tags("user:ada"):
            deleted = delete_dataset(DeleteConfig(name=name, version="all"), site=site)
        assert deleted == [made.version, raw.version]
        assert remote.find(f"{url}/store/datasets") == []
