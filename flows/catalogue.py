"""The catalogue of built-in algorithms."""

from __future__ import annotations

from prefect import flow

from tasks.report import task as report_stage
from tasks.train.config_catalogue import CatalogueConfig


@flow(name="list-algorithms")
def list_algorithms(catalogue: CatalogueConfig = CatalogueConfig()) -> list[dict[str, str]]:
    """Show what each algorithm is for, what it costs and what it can be told, as the artifact `algorithms`.

    Args:
        catalogue: Which algorithms to show.
    """
    return report_stage.list_algorithms(catalogue)
