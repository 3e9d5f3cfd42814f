"""Check a dataset version before anyone trains on it."""

from __future__ import annotations

from prefect import flow

from tasks.data import task as data_stage
from tasks.data.config import DatasetChoice, ValidateConfig
from tasks.refs import DatasetRef
from tasks.report import task as report_stage


@flow(name="validate", flow_run_name="validate {dataset.name}")
def validate_data(
    dataset: DatasetChoice = DatasetChoice(version="latest-raw"),
    validation: ValidateConfig = ValidateConfig(),
    site: str = "local",
) -> DatasetRef:
    """Run the built-in expectations, and your own, on a dataset version; publish the report and Data Docs.

    Args:
        dataset: The dataset version to check.
        validation: What the data must satisfy.
        site: Which set of blocks to run on.
    """
    found = data_stage.find_dataset(dataset, site)
    report = data_stage.validate_dataset(found, validation, site)
    report_stage.report_validation(report, site)
    return found
