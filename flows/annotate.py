"""Hand unlabelled items out to annotators, and take their labels back."""

from __future__ import annotations

from prefect import flow

from tasks.annotate import task as annotate_stage
from tasks.annotate.config import AssignConfig, CollectConfig
from tasks.data import task as data_stage
from tasks.data.config import DatasetChoice
from tasks.refs import DatasetRef
from tasks.report import task as report_stage


@flow(name="assign-annotation", flow_run_name="assign {dataset.name}")
def assign_annotation(dataset: DatasetChoice, assignment: AssignConfig, site: str = "local") -> str:
    """Split the unlabelled items of a dataset evenly over annotators, as Label Studio import files.

    Args:
        dataset: The dataset version with unlabelled items.
        assignment: The annotators and the labels to choose from.
        site: Which set of blocks to run on.
    """
    found = data_stage.find_dataset(dataset, site)
    return annotate_stage.assign_items(found, assignment, site).folder


@flow(name="collect-annotation", flow_run_name="collect labels")
def collect_annotation(labels: CollectConfig, site: str = "local") -> DatasetRef:
    """Check Label Studio's exports and join the labels into a new dataset version.

    Args:
        labels: The assignment and its exports.
        site: Which set of blocks to run on.
    """
    labelled = annotate_stage.collect_labels(labels, site)
    report_stage.report_dataset(labelled, site)
    return labelled
