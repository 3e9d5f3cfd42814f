"""Templates: finished trainings, with their preprocessing, to be run on other data."""

from __future__ import annotations

from prefect import flow

from tasks.data import task as data_stage
from tasks.data.config import DatasetChoice, PreprocessConfig, ValidateConfig
from tasks.evaluate import task as evaluate_stage
from tasks.refs import Problem, RunRef
from tasks.report import task as report_stage
from tasks.templates import task as templates_stage
from tasks.templates.config import TemplateConfig, TemplateData
from tasks.train import task as train_stage
from tasks.train.config import TrainConfig
from tasks.workspace.queue import take_slots


@flow(name="train-from-template", flow_run_name="train {data.name} from a template")
def train_from_template(
    data: TemplateData,
    problem: Problem,
    preprocessing: PreprocessConfig,
    training: TrainConfig,
    site: str = "local",
) -> RunRef:
    """Validate, preprocess, train and evaluate as a template says, on any data of its problem.

    Args:
        data: The data; all else is the template's.
        problem: What a model is to learn.
        preprocessing: The split and the steps.
        training: The algorithm and its hyperparameters.
        site: Which set of blocks to run on.
    """
    train_stage.require_trainable(training, site)
    take_slots(training, site)
    source = templates_stage.template_source(data, problem)
    if source is not None:
        raw = data_stage.ingest_dataset(source, site)
    else:
        raw = data_stage.find_dataset(DatasetChoice(name=data.name, version=data.version), site)
    templates_stage.require_fits_template(raw, problem)
    checks = data_stage.validate_dataset(raw, ValidateConfig(), site, preprocessing)
    report_stage.report_validation(checks, site)
    dataset = data_stage.preprocess_dataset(raw, preprocessing, site)
    run = train_stage.train_model(dataset, training, site)
    report_stage.report_training(run, site)
    if run.model_uri:
        evaluation = evaluate_stage.evaluate_model(run, dataset, evaluate_stage.HELD_OUT, site)
        report_stage.report_evaluation(evaluation, site)
    return run


@flow(name="save-template", flow_run_name="save template {template.name}")
def save_template(template: TemplateConfig, site: str = "local") -> str:
    """Make a finished training a deployment whose form asks for the data alone.

    Args:
        template: The training, and what the template is called.
        site: Which set of blocks to run on.
    """
    return templates_stage.save_template(template, train_from_template, site)


@flow(name="delete-template", flow_run_name="delete template {name}")
def delete_template(name: str) -> None:
    """Delete a template of one's own; trainings that it made stay.

    Args:
        name: Name of the template.
    """
    templates_stage.delete_template(name)


@flow(name="list-templates")
def list_templates() -> list[dict[str, str]]:
    """List templates, as the artifact `templates`."""
    return templates_stage.list_templates()
