"""Job groups: many trainings from one list or grid of settings."""

from __future__ import annotations

from prefect import flow

from tasks.data.config import DatasetChoice
from tasks.launch import task as launch_stage
from tasks.launch.config import GroupConfig
from tasks.train.config import TrainConfig


@flow(name="start-group", flow_run_name="start group {group.name}")
def start_group(
    group: GroupConfig,
    dataset: DatasetChoice | None = None,
    training: TrainConfig | None = None,
    site: str = "local",
) -> list[str]:
    """Start many trainings from one list or grid of settings; they queue and run in order.

    Args:
        group: The group's name, and what its trainings differ in.
        dataset: The dataset that all have in common; none takes the deployment's.
        training: The settings that all have in common; none takes the deployment's.
        site: Which set of blocks to run on.
    """
    return launch_stage.start_group(group, dataset, training, site)


@flow(name="stop-group", flow_run_name="stop group {group}")
def stop_group(group: str, user: str = "", site: str = "local") -> list[str]:
    """Stop every training of a group that has not ended.

    Args:
        group: Name of the group.
        user: Whose group; empty for one's own. Those of others only the manager of their workspace stops.
        site: Which set of blocks to run on.
    """
    return launch_stage.stop_group(group, user, site)
