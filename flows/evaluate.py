"""Measure a trained model on held-out rows."""

from __future__ import annotations

from typing import Literal

from prefect import flow

from tasks.evaluate import task as evaluate_stage
from tasks.refs import EvaluationRef
from tasks.report import task as report_stage
from tasks.train import task as train_stage


@flow(name="evaluate", flow_run_name="evaluate {run_id}")
def evaluate_model(
    run_id: str, split: Literal["train", "validation", "test"] = "test", site: str = "local"
) -> EvaluationRef:
    """Predict one split of the run's own dataset version and report the metrics.

    Args:
        run_id: The MLflow run of the training, as its page shows it.
        split: The rows to measure on.
        site: Which set of blocks to run on.
    """
    run = train_stage.find_run(run_id, site)
    evaluation = evaluate_stage.evaluate_model(run, run.dataset, split, site)
    report_stage.report_evaluation(evaluation, site)
    return evaluation
