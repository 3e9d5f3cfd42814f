"""Train an algorithm, or code of one's own, on a dataset version."""

from __future__ import annotations

from prefect import flow

from tasks.data import task as data_stage
from tasks.data.config import DatasetChoice
from tasks.evaluate import task as evaluate_stage
from tasks.refs import RunRef
from tasks.report import task as report_stage
from tasks.train import task as train_stage
from tasks.train.config import TrainConfig
from tasks.workspace.queue import take_slots


@flow(name="train", flow_run_name="train {dataset.name}")
def train_model(
    dataset: DatasetChoice = DatasetChoice(), training: TrainConfig = TrainConfig(), site: str = "local"
) -> RunRef:
    """Train, measure on rows held out, and record it all in MLflow.

    Args:
        dataset: The dataset version to train on; preprocessed, unless own code reads it as it is.
        training: The algorithm or own code, and its hyperparameters.
        site: Which set of blocks to run on.
    """
    found = data_stage.find_dataset(dataset, site)
    train_stage.require_trainable(training, site, found)
    take_slots(training, site)
    run = train_stage.train_model(found, training, site)
    report_stage.report_training(run, site)
    if run.model_uri:
        evaluation = evaluate_stage.evaluate_model(run, found, evaluate_stage.HELD_OUT, site)
        report_stage.report_evaluation(evaluation, site)
    return run
