"""Bring data in as a new immutable dataset version."""

from __future__ import annotations

from prefect import flow

from tasks.data import task as data_stage
from tasks.data.config import IngestConfig
from tasks.refs import DatasetRef
from tasks.report import task as report_stage


@flow(name="ingest", flow_run_name="ingest {data.name}")
def ingest_data(data: IngestConfig, site: str = "local") -> DatasetRef:
    """Read a folder, table or sample into the dataset store and show what came in.

    Args:
        data: Where the data is and what kind of problem it poses.
        site: Which set of blocks to run on.
    """
    raw = data_stage.ingest_dataset(data, site)
    report_stage.report_dataset(raw, site)
    return raw
