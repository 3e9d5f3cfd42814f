"""Delete trainings and experiments, as long as nothing stands on them; and bring them back."""

from __future__ import annotations

from prefect import flow

from tasks.removal import task as removal_stage
from tasks.removal.config import DeleteConfig, ExperimentConfig


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
