"""Own code through the train step: recorded, evaluated, registered and answering like a built-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import numpy as np
import pytest
from prefect import flow
from prefect.artifacts import Artifact

from tasks.data.read import read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings
from tasks.evaluate.task import evaluate_model
from tasks.refs import DatasetRef, EvaluationRef, ModelVersionRef, RunRef
from tasks.register.config import RegisterConfig
from tasks.register.task import register_model
from tasks.train import task
from tasks.train.config import TrainConfig
from tasks.train.own_code.config import OwnCode
from tasks.train.tags import STATUS_TAG
from tasks.train.task import train_model
from tests.helpers.serving_stack import MlflowProcess
from tests.helpers.trained import SITE

ASSETS = Path(__file__).parents[1] / "assets" / "own_code"


@flow
def train_and_register(
    ref: DatasetRef, config: TrainConfig, name: str
) -> tuple[RunRef, EvaluationRef, ModelVersionRef]:
    run = train_model(ref, config, SITE)
    evaluation = evaluate_model(run, ref, site=SITE)
    return run, evaluation, register_model(run, evaluation, RegisterConfig(model=name), SITE)


@flow
def only_train(ref: DatasetRef, config: TrainConfig) -> RunRef:
    return train_model(ref, config, SITE)


def test_a_script_is_trained_registered_and_answers(
    iris: DatasetRef, mlflow_server: MlflowProcess, tmp_path: Path
) -> None:
    own = OwnCode(
        source=str(ASSETS / "table_mlflow"), entry_point="main.py", required_metrics=("own_validation_loss",)
    )
    config = TrainConfig(
        own_code=own, hyperparameters={"epochs": 8, "batch-size": 16}, experiment="own", tags={"by": "ada"}
    )
    name = f"own-{uuid4().hex[:8]}"
    run, evaluation, version = train_and_register(iris, config, name)

    client = mlflow_server.client()
    recorded = client.get_run(run.run_id)
    assert recorded.info.status == "FINISHED"
    assert recorded.data.tags[STATUS_TAG] == "published"  # since it is registered
    assert recorded.data.params["epochs"] == "8"
    assert recorded.data.params["batch_size"] == "16"
    assert recorded.data.params["alpha"] == "0.001"
    assert recorded.data.params["seed"] == "42"  # the script's own word, not ours
    assert recorded.data.params["dataset"] == str(iris)
    steps = [one.step for one in client.get_metric_history(run.run_id, "own_validation_loss")]
    assert sorted(steps) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert "output.log" in str([one.path for one in client.list_artifacts(run.run_id, "own_code")])
    assert run.algorithm == "own_code"
    assert evaluation.metrics["accuracy"] > 0.8
    progress = Artifact.get("training-progress")
    assert progress is not None
    assert float(str(progress.data)) == 100
    assert "validation accuracy" in str(progress.description)
    assert client.get_model_version(name, str(version.version)).run_id == run.run_id

    # From the registry, as anybody would load it: the same answers as the evaluation had.
    mlflow.set_tracking_uri(mlflow_server.uri)
    served = mlflow.pyfunc.load_model(f"models:/{name}/{version.version}")
    raw = read_raw_rows(DatasetStore(str(tmp_path / "store")), iris, "test")
    scores = served.predict(raw.table)
    assert np.mean(scores.argmax(axis=1) == raw.labels) == pytest.approx(evaluation.metrics["accuracy"])

    again, _, _ = train_and_register(iris, config, name)
    assert again == run  # nothing changed: nothing runs


def test_edited_code_runs_again_and_a_failure_leaves_its_output(
    iris: DatasetRef, mlflow_server: MlflowProcess, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    text = (ASSETS / "table_mlflow" / "main.py").read_text()
    (code / "train.py").write_text(text)
    config = TrainConfig(own_code=OwnCode(source=str(code)), experiment="own-fails")
    first = only_train(iris, config)
    (code / "train.py").write_text(text + "\nprint('the last word'); raise SystemExit(7)\n")
    with pytest.raises(InvalidData, match=r"^The code ended with exit code 7\."):
        only_train(iris, config)

    client = mlflow_server.client()
    experiment = client.get_experiment_by_name("own-fails")
    assert experiment is not None
    (failed,) = client.search_runs([experiment.experiment_id], "attributes.status = 'FAILED'")
    assert failed.info.run_id != first.run_id
    assert failed.data.tags[STATUS_TAG] == "failed"
    log = client.download_artifacts(failed.info.run_id, "own_code/output.log", str(tmp_path))
    assert "the last word" in Path(log).read_text()


def test_code_that_is_edited_behind_its_cache_key_is_refused(
    iris: DatasetRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    save = "import os; open(os.environ['EM_MODEL_DIR'] + '/notes.txt', 'w').write('{}')\n"
    (code / "train.py").write_text(save.format("first"))
    config = TrainConfig(own_code=OwnCode(source=str(code)), experiment="own-edited")
    named = task.work_folder

    def edited_meanwhile(*given: Any) -> Path:
        (code / "train.py").write_text(save.format("second"))
        return named(*given)

    with monkeypatch.context() as patch:
        patch.setattr(task, "work_folder", edited_meanwhile)
        with pytest.raises(InvalidData, match=r"^The code changed while"):
            only_train(iris, config)
    second = only_train(iris, config)
    (code / "train.py").write_text(save.format("first"))
    assert only_train(iris, config).digest != second.digest  # nothing is kept under the key of the first


def test_a_model_that_cannot_be_served_is_kept_with_its_run_alone(
    iris: DatasetRef, mlflow_server: MlflowProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text(
        "import os, joblib\njoblib.dump([1], os.environ['EM_MODEL_DIR'] + '/model.joblib')\n"
    )
    output = tmp_path / "model.zip"
    config = TrainConfig(
        own_code=OwnCode(source=str(tmp_path / "code")), experiment="own-kept", output=str(output)
    )
    run = only_train(iris, config)
    assert f"Nothing is written to {output}: the model cannot be served" in caplog.text
    assert not output.exists()
    client = mlflow_server.client()
    recorded = client.get_run(run.run_id)
    assert run.model_uri == ""
    assert recorded.info.status == "FINISHED"
    assert "joblib" in recorded.data.tags["trainyard.not_served"]
    assert [one.path for one in client.list_artifacts(run.run_id, "model")] == ["model/model.joblib"]


def test_bad_code_makes_no_run(iris: DatasetRef, mlflow_server: MlflowProcess, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("import absent_one\nx = ")
    config = TrainConfig(own_code=OwnCode(source=str(tmp_path / "code")), experiment="own-never")
    with pytest.raises(InvalidData, match=r"^The code has a syntax error"):
        only_train(iris, config)
    assert mlflow_server.client().get_experiment_by_name("own-never") is None
    with pytest.raises(InvalidSettings):
        TrainConfig(own_code=OwnCode(source="/code"), algorithm="mlp")
