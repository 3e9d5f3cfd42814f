"""Check a dataset version before anyone trains on it."""

from __future__ import annotations

from prefect import flow

from tasks.data import task as data_stage
from tasks.data.config import DatasetChoice, ValidateConfig
from tasks.refs import DatasetRef


@flow(name="validate", flow_run_name="validate {dataset.name}")
def validate_data(
    dataset: DatasetChoice = DatasetChoice(version="latest-raw"),
    validation: ValidateConfig = ValidateConfig(),
    site: str = "local",
) -> DatasetRef:
    """Run the built-in expectations on a dataset version and publish its Data Docs.

    Args:
        dataset: The dataset version to check.
        validation: What the data must satisfy.
        site: Which set of blocks to run on.
    """
    found = data_stage.find_dataset(dataset, site)
    data_stage.validate_dataset(found, validation, site)
    return found
