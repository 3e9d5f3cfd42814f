"""Trainings as things: groups, drafts, copies, one list of all; rename, delete and restore."""

from __future__ import annotations

from prefect import flow

from tasks.data.config import DatasetChoice
from tasks.launch import task as launch_stage
from tasks.launch.config import CopyConfig, DraftConfig, GroupConfig, StartConfig
from tasks.removal import task as removal_stage
from tasks.removal.config import DeleteConfig, ExperimentConfig
from tasks.train.config import TrainConfig
from tasks.trainings import task as trainings_stage
from tasks.trainings.config import ListConfig, RenameConfig


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
def stop_group(group: str, site: str = "local") -> list[str]:
    """Stop every training of a group that has not ended.

    Args:
        group: Name of the group.
        site: Which set of blocks to run on.
    """
    return launch_stage.stop_group(group, site)


@flow(name="list-trainings")
def list_trainings(listing: ListConfig = ListConfig(), site: str = "local") -> list[dict[str, str]]:
    """List trainings with status and scores, filtered and sorted, as the artifact `trainings`.

    Args:
        listing: Which trainings, and in which order.
        site: Which set of blocks to run on.
    """
    return trainings_stage.list_trainings(listing, site)


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


@flow(name="rename-training", flow_run_name="rename {renaming.training}")
def rename_training(renaming: RenameConfig, site: str = "local") -> str:
    """Give a training of one's own another name, description or tags.

    Args:
        renaming: The training, and its new words.
        site: Which set of blocks to run on.
    """
    return trainings_stage.rename_training(renaming, site)


@flow(name="delete-training", flow_run_name="delete {deletion.training}")
def delete_training(deletion: DeleteConfig, site: str = "local") -> list[str]:
    """Delete a training of one's own, unless a registered model, an endpoint, a template or a study needs it.

    Args:
        deletion: What to delete, and how far.
        site: Which set of blocks to run on.
    """
    return removal_stage.delete_training(deletion, site)


@flow(name="restore-training", flow_run_name="restore {run_id}")
def restore_training(run_id: str, site: str = "local") -> list[str]:
    """Undo the deletion of a training that was not deleted for good.

    Args:
        run_id: The MLflow run, as its deletion has shown it.
        site: Which set of blocks to run on.
    """
    return removal_stage.restore_training(run_id, site)


@flow(name="delete-experiment", flow_run_name="delete experiment {deletion.name}")
def delete_experiment(deletion: ExperimentConfig, site: str = "local") -> list[str]:
    """Delete an experiment that has no trainings.

    Args:
        deletion: Which experiment.
        site: Which set of blocks to run on.
    """
    return removal_stage.delete_experiment(deletion, site)


@flow(name="restore-experiment", flow_run_name="restore experiment {name}")
def restore_experiment(name: str, site: str = "local") -> str:
    """Undo the last deletion of an experiment.

    Args:
        name: The name that it had.
        site: Which set of blocks to run on.
    """
    return removal_stage.restore_experiment(name, site)
