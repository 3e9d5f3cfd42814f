"""The evaluation step: a trained or registered model on the held-out rows of a dataset version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from prefect import task
from prefect.logging import get_run_logger

from blocks.mlflow_server import MlflowServer
from tasks.cache import StepCache
from tasks.data.task import open_store
from tasks.errors import InvalidSettings
from tasks.home import home
from tasks.refs import DatasetRef, EvaluationRef, ModelVersionRef, RunRef

HELD_OUT = "held-out"


def _verify(result: EvaluationRef, inputs: Mapping[str, Any]) -> None:
    """Check that the evaluation is still in MLflow, as it was written."""
    from tasks.evaluate.records import load_evaluation

    load_evaluation(cast(MlflowServer, MlflowServer.load(inputs["site"])).client(), result)


@task(
    name="evaluate",
    task_run_name="evaluate {run.algorithm} on {dataset.name} {split}",
    cache_policy=StepCache(verify=_verify),
    persist_result=True,
    result_serializer="json",
)
def evaluate_model(
    run: RunRef, dataset: DatasetRef, split: str = "test", site: str = "local"
) -> EvaluationRef:
    """Measure a run's model on raw rows; metrics and files go to the run.

    Args:
        run: The training.
        dataset: The version to measure on; on the run's own, its other splits are measured beside.
        split: Name of a split, or held-out: test, or where a version has none, validation, or train.
        site: Which set of blocks to use.
    """
    if not run.model_uri:
        raise InvalidSettings(
            "the model of this run cannot be served, and so not be evaluated",
            where=f"MLflow run {run.run_id}, tag trainyard.not_served",
            mend="save the model in one of the formats that docs/own-code.md names, and train again",
        )
    if split == HELD_OUT:
        from tasks.evaluate.records import held_out_split

        split = held_out_split(open_store(site).open(dataset).splits)
    return _evaluate(run.run_id, run.model_uri, dataset, split, site, as_the_runs_own=True)


@task(
    name="evaluate version",
    task_run_name="evaluate {version.name} v{version.version} on {dataset.name} {split}",
    cache_policy=StepCache(verify=_verify),
    persist_result=True,
    result_serializer="json",
)
def evaluate_version(
    version: ModelVersionRef, dataset: DatasetRef, split: str = "test", site: str = "local"
) -> EvaluationRef:
    """Measure a registered version, such as the champion, for a comparison on any dataset version."""
    return _evaluate(version.run_id, version.model_uri, dataset, split, site, as_the_runs_own=False)


def _evaluate(
    run_id: str, model_uri: str, dataset: DatasetRef, split: str, site: str, *, as_the_runs_own: bool
) -> EvaluationRef:
    from tasks.evaluate.records import evaluate_and_record

    ref = evaluate_and_record(
        run_id,
        model_uri,
        dataset,
        split,
        open_store(site),
        cast(MlflowServer, MlflowServer.load(site)).client(),
        home() / "work" / "models",
        as_the_runs_own=as_the_runs_own,
    )
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in ref.metrics.items())
    get_run_logger().info("On %s %s rows of %s: %s.", f"{ref.rows:,}", split, dataset, shown)
    return ref
