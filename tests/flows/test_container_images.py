"""Container images of trainings, with Prefect's own templates of Docker and Kubernetes work pools.

No container is started: what a worker would start it with is made by the code of Prefect's workers.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prefect.server.api
import pytest
from prefect import tags
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    BlockDocumentCreate,
    BlockDocumentUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.exceptions import ObjectNotFound
from prefect.workers.base import BaseJobConfiguration

from blocks.container_image import REGISTRY_ACCOUNT, ContainerImage
from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from blocks.resource_presets import Preset, ResourcePresets, usual_presets
from flows import drafts, groups, removal, templates
from tasks.data.config import PreprocessConfig
from tasks.data.preparation.preprocess import preprocess
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotFound
from tasks.launch.config import CopyConfig, DraftConfig, GroupConfig
from tasks.removal.config import DeleteConfig
from tasks.templates.config import TemplateConfig
from tasks.train.config import TrainConfig
from tasks.train.own_code.config import OwnCode
from tasks.train.tags import FLOW_RUN_TAG
from tasks.train.train import train
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.trained import iris_dataset
from tests.helpers.training_site import IRIS, QUICK, deploy, forget, group_of

SITE = "containers-suite"
IMAGE = "registry.example.com:5000/team/trainer:1.4"
PASSWORD = "not-for-everybody"


class DockerJob(BaseJobConfiguration):
    """What the Docker worker starts a container with, as far as the image goes."""

    image: str
    registry_credentials: dict[str, Any] | None = None


class KubernetesJob(BaseJobConfiguration):
    """What the Kubernetes worker makes a job of."""

    job_manifest: dict[str, Any]


def _template(package: str, kind: str) -> dict[str, Any]:
    """A base job template as Prefect ships it for its workers."""
    views = Path(prefect.server.api.__file__).parent / "collections_data" / "views"
    known = json.loads((views / "aggregate-worker-metadata.json").read_text())
    template: dict[str, Any] = known[package][kind]["default_base_job_configuration"]
    return template


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, mlflow_server: MlflowProcess) -> Iterator[Path]:
    """A site whose deployment train/step is in a Docker pool, and an image with its account."""
    folder = tmp_path_factory.mktemp("containers")
    MlflowServer(tracking_uri=mlflow_server.uri).save(SITE, overwrite=True)
    ObjectStore(url=str(folder / "store")).save(SITE, overwrite=True)
    iris_dataset(DatasetStore(str(folder / "store")))
    pools = {
        "boxes": _template("prefect-docker", "docker"),
        "cluster": _template("prefect-kubernetes", "kubernetes"),
        "bare": _template("prefect", "process"),
    }
    with get_client(sync_client=True) as client:
        for (name, template), kind in zip(pools.items(), ("docker", "kubernetes", "process"), strict=True):
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
        made = [
            deploy(client, "flows.train.train_model", SITE, name=name, pool=pool)
            for name, pool in (("step", "boxes"), ("on-cluster", "cluster"), ("on-bare", "bare"))
        ]
        _account(client, "team-registry")
    ContainerImage(image=IMAGE, registry_account="team-registry").save("trainer")
    yield folder
    with get_client(sync_client=True) as client:
        forget(client, made)
        for pool in pools:
            client.delete_work_pool(pool)
        for kind in (ContainerImage.get_block_type_slug(), REGISTRY_ACCOUNT):
            for block in client.read_block_documents_by_type(kind):
                client.delete_block_document(block.id)


@pytest.fixture(autouse=True)
def _data_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_HOME", str(home))


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def _account(client: SyncPrefectClient, name: str) -> str:
    """Register an account as the page Blocks does, on the type that Prefect's server brings."""
    kind = client.read_block_type_by_slug(REGISTRY_ACCOUNT)
    schema = client.get_most_recent_block_schema_for_block_type(kind.id)
    assert schema is not None
    made = client.create_block_document(
        BlockDocumentCreate(
            name=name,
            data={"username": "ada", "password": PASSWORD, "registry_url": "registry.example.com:5000"},
            block_schema_id=schema.id,
            block_type_id=kind.id,
        )
    )
    return str(made.id)


def _group(name: str, **settings: Any) -> GroupConfig:
    return GroupConfig(name=name, sets=({"seed": 1},), queue="default", draft=True, **settings)


def _job(kind: type[Any], flow_run_id: str) -> Any:
    """What a worker would start a flow run with."""

    async def resolved() -> Any:
        async with get_client() as client:
            run = await client.read_flow_run(uuid.UUID(flow_run_id))
            assert run.work_pool_name is not None
            pool = await client.read_work_pool(run.work_pool_name)
            return await kind.resolve_for_flow_run(run, client=client, work_pool=pool, worker_name="tests")

    return asyncio.run(resolved())


def test_a_private_image_reaches_the_worker_and_its_password_no_record(
    client: SyncPrefectClient,
) -> None:
    (started,) = groups.start_group(_group("private", image="trainer"), IRIS, QUICK, SITE)
    run = client.read_flow_run(uuid.UUID(started))
    account = client.read_block_document_by_name("team-registry", REGISTRY_ACCOUNT, include_secrets=False)
    credentials = {"$ref": {"block_document_id": str(account.id)}}
    assert run.job_variables == {"image": IMAGE, "registry_credentials": credentials}
    written = [run.model_dump_json(), *(one.model_dump_json() for one in client.read_artifacts())]
    assert not any(PASSWORD in one for one in written)
    job = _job(DockerJob, started)
    assert job.image == IMAGE
    assert job.registry_credentials["password"] == PASSWORD
    assert job.registry_credentials["username"] == "ada"


def test_a_copy_runs_in_the_image_of_the_original_unless_it_is_told_another(
    client: SyncPrefectClient,
) -> None:
    with tags("user:ada"):
        draft = drafts.draft_training(IRIS, QUICK, DraftConfig(image="trainer"), SITE)
        same = drafts.copy_training(CopyConfig(training=draft, changes={"seed": 2}, draft=True), SITE)
        other = drafts.copy_training(CopyConfig(training=draft, image="python:3.11", draft=True), SITE)
    assert _job(DockerJob, same).registry_credentials["password"] == PASSWORD
    job = _job(DockerJob, other)
    assert (job.image, job.registry_credentials) == ("python:3.11", None)


def test_a_group_in_another_image_is_started_again_and_in_the_same_is_not(
    client: SyncPrefectClient,
) -> None:
    first = groups.start_group(_group("images", image="python:3.11"), IRIS, QUICK, SITE)
    assert groups.start_group(_group("images", image="python:3.11"), IRIS, QUICK, SITE) == first
    assert groups.start_group(_group("images", image="python:3.12"), IRIS, QUICK, SITE) != first
    assert len(group_of(client, "images")) == 2


def test_a_template_keeps_the_image_of_its_training(
    home: Path, client: SyncPrefectClient, mlflow_server: MlflowProcess
) -> None:
    store, mlflow = DatasetStore(str(home / "store")), mlflow_server.client()
    with tags("user:ada"):
        draft = drafts.draft_training(IRIS, QUICK, DraftConfig(image="trainer"), SITE)
        ref = preprocess(iris_dataset(store, name="flowers"), PreprocessConfig(), store)
        run = train(ref, QUICK, store, mlflow, home / "work" / "train", tags={FLOW_RUN_TAG: draft})
        kept = templates.save_template(TemplateConfig(training=run.run_id, name="kept"), SITE)
        other = TemplateConfig(training=run.run_id, name="other", image="python:3.11")
        changed = templates.save_template(other, SITE)
        copied = drafts.copy_training(CopyConfig(training=run.run_id, draft=True), SITE)
    assert client.read_deployment_by_name(kept).job_variables["image"] == IMAGE
    assert client.read_deployment_by_name(changed).job_variables == {"image": "python:3.11"}
    assert _job(DockerJob, copied).image == IMAGE
    with tags("user:ada"):
        for name in ("kept", "other"):
            templates.delete_template(name)


def test_a_cluster_pulls_by_the_secret_that_its_template_names(client: SyncPrefectClient) -> None:
    secret = ContainerImage(image=IMAGE, registry_account="team-registry", pull_secret="team-pull")
    secret.save("by-secret", overwrite=True)
    config = _group("cluster", image="by-secret", deployment="train/on-cluster")
    with pytest.raises(
        InvalidSettings, match=r"work pool cluster has no way to pull.*namespace.*image_pull_secret"
    ):
        groups.start_group(config, IRIS, QUICK, SITE)
    assert group_of(client, "cluster") == []

    template = _template("prefect-kubernetes", "kubernetes")
    template["variables"]["properties"]["image_pull_secret"] = {"type": "string"}
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["imagePullSecrets"] = [{"name": "{{ image_pull_secret }}"}]
    client.update_work_pool("cluster", WorkPoolUpdate(base_job_template=template))
    (started,) = groups.start_group(config, IRIS, QUICK, SITE)
    pod = _job(KubernetesJob, started).job_manifest["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "team-pull"}]
    assert pod["containers"][0]["image"] == IMAGE


def test_what_cannot_run_in_an_image_is_refused_before_any_run_exists(client: SyncPrefectClient) -> None:
    def refused(image: str, kind: type[Exception], words: str, **settings: Any) -> None:
        with pytest.raises(kind, match=words):
            groups.start_group(_group("refused", image=image, **settings), IRIS, QUICK, SITE)

    refused(
        "python:3.11",
        InvalidSettings,
        r"work pool bare runs in no container image.*process work pool bare.*Allowed: job variables command, "
        r"env.*To mend: leave image empty, or give the deployment a Docker",
        deployment="train/on-bare",
    )
    refused(
        "trianer", NotFound, r"no container image 'trianer'.*Allowed: .*trainer.*page Blocks.*with its tag"
    )
    refused("Trainer:1", InvalidSettings, "capital letters")
    ContainerImage(image=IMAGE, registry_account="gone").save("orphan", overwrite=True)
    refused("orphan", NotFound, r"no registry account 'gone'.*container-image/orphan.*Allowed: team-registry")
    ContainerImage(image="Team/Trainer").save("misnamed", overwrite=True)
    refused("misnamed", InvalidSettings, "capital letters.*container-image/misnamed")
    assert group_of(client, "refused") == []


def test_files_and_size_of_the_host_of_a_container_are_left_to_the_run(client: SyncPrefectClient) -> None:
    inside = QUICK.model_copy(
        update={"resources": "many", "output": "/nowhere/model.zip", "checkpoint_folder": "/nowhere"}
    )
    presets = {**usual_presets(), "many": Preset(cpus=4096)}
    ResourcePresets(presets=presets).save(SITE, overwrite=True)
    own = TrainConfig(own_code=OwnCode(source="/nowhere/code"), start_from="/nowhere/weights")
    for training in (inside, own):
        drafts.draft_training(IRIS, training, DraftConfig(), SITE)
    wrong = inside.model_copy(update={"resources": "cpu2"})
    with pytest.raises(InvalidSettings, match="no preset 'cpu2'"):
        drafts.draft_training(IRIS, wrong, DraftConfig(), SITE)
    with pytest.raises(InvalidSettings, match=r"4096 processors.*Nothing is written to /nowhere"):
        groups.start_group(_group("bare", deployment="train/on-bare"), IRIS, inside, SITE)


def test_a_renewed_password_is_the_one_that_waiting_runs_get(client: SyncPrefectClient) -> None:
    renewed = _account(client, "renewed")
    ContainerImage(image=IMAGE, registry_account="renewed").save("renewed", overwrite=True)
    (started,) = groups.start_group(_group("renewed", image="renewed"), IRIS, QUICK, SITE)
    new = BlockDocumentUpdate(data={"password": "new"}, merge_existing_data=True)
    client.update_block_document(uuid.UUID(renewed), new)
    assert _job(DockerJob, started).registry_credentials["password"] == "new"
    client.delete_block_document(uuid.UUID(renewed))
    with pytest.raises(ObjectNotFound, match="Block not found"):
        _job(DockerJob, started)
    removal.delete_training(DeleteConfig(training=started), SITE)
