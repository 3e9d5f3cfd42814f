"""Try every algorithm that fits the problem and rank them."""

from __future__ import annotations

from prefect import flow

from tasks.data import task as data_stage
from tasks.data.config import DatasetChoice
from tasks.refs import StudyRef
from tasks.report import task as report_stage
from tasks.sweep import task as sweep_stage
from tasks.sweep.config import SweepConfig
from tasks.workspace.queue import take_slots


@flow(name="sweep", flow_run_name="sweep {dataset.name}")
def sweep_algorithms(
    dataset: DatasetChoice = DatasetChoice(), sweeping: SweepConfig = SweepConfig(), site: str = "local"
) -> StudyRef:
    """Train all or chosen algorithms under one time budget and show the leaderboard.

    Args:
        dataset: The preprocessed dataset version to train on.
        sweeping: The algorithms and the time budget.
        site: Which set of blocks to run on.
    """
    take_slots(sweeping, site)
    found = data_stage.find_dataset(dataset, site)
    study = sweep_stage.sweep_algorithms(found, sweeping, site)
    report_stage.report_study(study, site)
    report_stage.report_training(study.best, site)
    return study
