"""Make a dataset version that a model can be trained on."""

from __future__ import annotations

from prefect import flow

from tasks.data import task as data_stage
from tasks.data.config import DatasetChoice, PreprocessConfig
from tasks.refs import DatasetRef
from tasks.report import task as report_stage


@flow(name="preprocess", flow_run_name="preprocess {dataset.name}")
def preprocess_data(
    dataset: DatasetChoice = DatasetChoice(version="latest-raw"),
    preprocessing: PreprocessConfig = PreprocessConfig(),
    site: str = "local",
) -> DatasetRef:
    """Split a dataset version and apply preprocessing steps, on Dask.

    Args:
        dataset: The dataset version to start from; it stays as it is.
        preprocessing: The split and the steps.
        site: Which set of blocks to run on.
    """
    found = data_stage.find_dataset(dataset, site)
    prepared = data_stage.preprocess_dataset(found, preprocessing, site)
    report_stage.report_dataset(prepared, site)
    return prepared
