"""Stored datasets: list, browse, look at, export, delete and share them; templates for new ones."""

from __future__ import annotations

from prefect import flow

from tasks.data import dataset_tasks
from tasks.data import task as data_stage
from tasks.data.config import DatasetChoice
from tasks.data.config_store import (
    BrowseConfig,
    DeleteConfig,
    ExportConfig,
    ListConfig,
    SampleConfig,
    ShareConfig,
    TemplateConfig,
)
from tasks.report import task as report_stage


@flow(name="list-datasets")
def list_datasets(listing: ListConfig = ListConfig(), site: str = "local") -> list[dict[str, str]]:
    """List datasets, filtered and sorted, as the artifact `datasets`.

    Args:
        listing: Which datasets, and in which order.
        site: Which set of blocks to run on.
    """
    return dataset_tasks.list_datasets(listing, site)


@flow(name="browse", flow_run_name="browse {dataset.name}")
def browse_dataset(
    dataset: DatasetChoice = DatasetChoice(), browsing: BrowseConfig = BrowseConfig(), site: str = "local"
) -> list[dict[str, str]]:
    """Show the folders of a version with rows and bytes, or the items of a folder or a glob.

    Args:
        dataset: The dataset version to look into.
        browsing: Where in it, and which rows.
        site: Which set of blocks to run on.
    """
    return dataset_tasks.browse_dataset(dataset, browsing, site)


@flow(name="sample", flow_run_name="sample {dataset.name}")
def sample_dataset(
    dataset: DatasetChoice = DatasetChoice(), sampling: SampleConfig = SampleConfig(), site: str = "local"
) -> None:
    """Show random rows of a version as a picture or a table, before and after preprocessing.

    Args:
        dataset: The dataset version to look at.
        sampling: Which rows, and how many.
        site: Which set of blocks to run on.
    """
    found = data_stage.find_dataset(dataset, site)
    report_stage.report_samples(found, sampling, site)


@flow(name="export", flow_run_name="export {dataset.name}")
def export_dataset(dataset: DatasetChoice, export: ExportConfig = ExportConfig(), site: str = "local") -> str:
    """Write a version into a zip file with its labels, in the layout that it came in.

    Args:
        dataset: The dataset version to export.
        export: What of it, and where to; by default a link to download.
        site: Which set of blocks to run on.
    """
    return dataset_tasks.export_dataset(dataset, export, site)


@flow(name="template", flow_run_name="template {template.layout}")
def dataset_template(template: TemplateConfig = TemplateConfig(), site: str = "local") -> str:
    """Make an example of a layout of files, to replace by one's own and ingest.

    Args:
        template: The layout and the problem.
        site: Which set of blocks to run on.
    """
    return dataset_tasks.make_template(template, site)


@flow(name="delete-dataset", flow_run_name="delete {deletion.name} {deletion.version}")
def delete_dataset(deletion: DeleteConfig, site: str = "local") -> list[str]:
    """Delete a version or a whole dataset of one's own, unless a training or another version needs it.

    Args:
        deletion: What to delete.
        site: Which set of blocks to run on.
    """
    return dataset_tasks.delete_dataset(deletion, site)


@flow(name="share-dataset", flow_run_name="share {sharing.name}")
def share_dataset(sharing: ShareConfig, site: str = "local") -> None:
    """Set who may see a dataset of one's own and add versions to it.

    Args:
        sharing: The dataset, and who may use it how.
        site: Which set of blocks to run on.
    """
    dataset_tasks.share_dataset(sharing, site)
