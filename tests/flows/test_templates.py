"""Templates: a finished training as a deployment that asks for the data alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect import tags
from prefect.client.orchestration import SyncPrefectClient
from prefect.flows import load_flow_from_entrypoint

from flows import removal, templates
from flows.ingest import ingest_data
from flows.preprocess import preprocess_data
from flows.train import train_model
from tasks.data.config import DatasetChoice, IngestConfig, PreprocessConfig, SplitConfig
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotAllowed, NotFound
from tasks.refs import Problem
from tasks.removal.config import DeleteConfig
from tasks.templates.config import TemplateConfig, TemplateData
from tasks.train.config import TrainConfig
from tasks.train.own_code.config import OwnCode
from tests.helpers.training_site import SITE

KEPT_NOT_SERVED = "import os; open(os.environ['EM_MODEL_DIR'] + '/notes.txt', 'w').write('x')\n"
"""Own code whose model cannot be served."""


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
    with tags("user:bob"), pytest.raises(NotAllowed, match=r"To mend: choose another name\.$"):
        templates.save_template(TemplateConfig(training=run.run_id, name="like-flowers"), SITE)
    deployment = prefect.read_deployment_by_name(name)
    assert list(deployment.parameter_openapi_schema["properties"]) == ["data"]
    assert run.run_id in (deployment.description or "")
    assert deployment.entrypoint == "flows.templates.train_from_template"
    assert (deployment.work_pool_name, deployment.work_queue_name) == ("local", "training")  # of train/step
    assert deployment.parameters["training"]["algorithm"] == run.algorithm == "logistic_regression"
    assert deployment.parameters["preprocessing"]["split"] == split.model_dump(mode="json")
    (line,) = templates.list_templates()
    assert (line["template"], line["from run"], line["user"]) == ("like-flowers", run.run_id, "ada")

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
    assert templates.list_templates() == []
    with pytest.raises(NotFound, match="no template like-flowers"):
        templates.delete_template("like-flowers")
