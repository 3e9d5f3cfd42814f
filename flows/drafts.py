"""Trainings that are set up and started later, and copies of earlier ones."""

from __future__ import annotations

from prefect import flow

from tasks.data.config import DatasetChoice
from tasks.launch import task as launch_stage
from tasks.launch.config import CopyConfig, DraftConfig, StartConfig
from tasks.train.config import TrainConfig


@flow(name="draft-training", flow_run_name="draft on {dataset.name}")
def draft_training(
    dataset: DatasetChoice = DatasetChoice(),
    training: TrainConfig = TrainConfig(),
    draft: DraftConfig = DraftConfig(),
    site: str = "local",
) -> str:
    """Set a training up and do not start it: Resume on its page does, or the flow start-training.

    Args:
        dataset: The preprocessed dataset version to train on.
        training: The algorithm and its hyperparameters.
        draft: The draft's name and queue.
        site: Which set of blocks to run on.
    """
    return launch_stage.draft_training(draft, dataset, training, site)


@flow(name="start-training")
def start_training(start: StartConfig) -> list[str]:
    """Start drafts.

    Args:
        start: Which drafts.
    """
    return launch_stage.start_trainings(start)


@flow(name="copy-training", flow_run_name="copy {copying.training}")
def copy_training(copying: CopyConfig, site: str = "local") -> str:
    """Run a training again with some settings changed, at once or as a draft.

    Args:
        copying: The training, and what is different.
        site: Which set of blocks to run on.
    """
    return launch_stage.copy_training(copying, site)
