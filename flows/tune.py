"""Search for good hyperparameters of one algorithm; go on with a search, and take one of its trials."""

from __future__ import annotations

from prefect import flow

from tasks.data import task as data_stage
from tasks.data.config import DatasetChoice
from tasks.refs import RunRef, StudyRef
from tasks.report import task as report_stage
from tasks.tune import task as tune_stage
from tasks.tune.config import ExtendConfig, SubmitConfig, TuneConfig
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


@flow(name="extend-study", flow_run_name="go on with study {extension.study}")
def extend_study(extension: ExtendConfig, site: str = "local") -> StudyRef:
    """Run more trials of a study that has ended, in its space or a wider one, with all that it has shown.

    Args:
        extension: The study, and by how much.
        site: Which set of blocks to run on.
    """
    take_slots(tune_stage.settings_of_study(extension.study, site), site)
    study = tune_stage.extend_study(extension, site)
    report_stage.report_study(study, site)
    report_stage.report_training(study.best, site)
    return study


@flow(name="submit-trial", flow_run_name="submit a trial of study {submission.study}")
def submit_trial(submission: SubmitConfig, site: str = "local") -> RunRef:
    """Make a trial the result of its study, while others may still run: an ordinary training of its settings.

    Args:
        submission: The study, the trial, and whether the others are to end.
        site: Which set of blocks to run on.
    """
    run = tune_stage.submit_trial(submission, site)
    report_stage.report_training(run, site)
    return run
