"""Search for good hyperparameters of one algorithm."""

from __future__ import annotations

from prefect import flow

from tasks.data import task as data_stage
from tasks.data.config import DatasetChoice
from tasks.refs import StudyRef
from tasks.report import task as report_stage
from tasks.tune import task as tune_stage
from tasks.tune.config import TuneConfig
from tasks.workspace.queue import take_slots


@flow(name="tune", flow_run_name="tune {dataset.name}")
def tune_model(
    dataset: DatasetChoice = DatasetChoice(), tuning: TuneConfig = TuneConfig(), site: str = "local"
) -> StudyRef:
    """Run a study on Ray Tune; its best trial is an ordinary run that can be evaluated and registered.

    Args:
        dataset: The preprocessed dataset version to train on.
        tuning: The search space, the searcher, the scheduler and the limits.
        site: Which set of blocks to run on.
    """
    take_slots(tuning, site)
    found = data_stage.find_dataset(dataset, site)
    study = tune_stage.tune_model(found, tuning, site)
    report_stage.report_study(study, site)
    report_stage.report_training(study.best, site)
    return study
