"""All trainings in one list; and new words for one."""

from __future__ import annotations

from prefect import flow

from tasks.trainings import task as trainings_stage
from tasks.trainings.config import ListConfig, RenameConfig


@flow(name="list-trainings")
def list_trainings(listing: ListConfig = ListConfig(), site: str = "local") -> list[dict[str, str]]:
    """List trainings with status and scores, filtered and sorted, as the artifact `trainings`.

    Args:
        listing: Which trainings, and in which order.
        site: Which set of blocks to run on.
    """
    return trainings_stage.list_trainings(listing, site)


@flow(name="rename-training", flow_run_name="rename {renaming.training}")
def rename_training(renaming: RenameConfig, site: str = "local") -> str:
    """Give a training of one's own another name, description or tags.

    Args:
        renaming: The training, and its new words.
        site: Which set of blocks to run on.
    """
    return trainings_stage.rename_training(renaming, site)
