"""Train one algorithm on a preprocessed dataset version."""

from __future__ import annotations

from prefect import flow

from tasks.data import task as data_stage
from tasks.data.config import DatasetChoice
from tasks.refs import RunRef
from tasks.report import task as report_stage
from tasks.train import task as train_stage
from tasks.train.config import TrainConfig


@flow(name="train", flow_run_name="train {dataset.name}")
def train_model(
    dataset: DatasetChoice = DatasetChoice(), training: TrainConfig = TrainConfig(), site: str = "local"
) -> RunRef:
    """Train, and record the run in MLflow with its curves and its model.

    Args:
        dataset: The preprocessed dataset version to train on.
        training: The algorithm and its hyperparameters.
        site: Which set of blocks to run on.
    """
    found = data_stage.find_dataset(dataset, site)
    run = train_stage.train_model(found, training, site)
    report_stage.report_training(run, site)
    return run
