"""Deletion of experiments, and its undoing: refused while they have trainings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tasks.data.listed import listed
from tasks.errors import NotAllowed, NotFound
from tasks.trainings import records
from tasks.trainings.records import DELETED, DELETED_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT_NAME_TAG = "trainyard.name"
"""Name that a deleted experiment had: a new one may take it."""
WORKSPACE_TAG = "trainyard.workspace"


def obstacles(client: MlflowClient, name: str) -> list[str]:
    """What is in the way of deleting an experiment.

    Raises:
        NotFound: There is no such experiment.
    """
    experiment = _experiment(client, name)
    found = []
    runs = [one for one in records.search(client, experiment=name) if not one.parent]
    for ours in (True, False):
        some = [one for one in runs if (one.is_training or one.is_search) == ours]
        names = listed([f"{one.name} ({one.run_id})" for one in some])
        if some and ours:
            found.append(f"it has {len(some)} trainings, {names}: delete those with the flow delete-training")
        elif some:
            found.append(f"it has {len(some)} runs of others, {names}: delete those in MLflow's pages")
    workspace = experiment.tags.get(WORKSPACE_TAG)
    if workspace:
        found.append(f"it is the experiment of the workspace {workspace}: it stays as long as that")
    return found


def delete(client: MlflowClient, name: str) -> str:
    """Delete an experiment that has no trainings; its name is free afterwards. Returns its id."""
    experiment = _experiment(client, name)
    stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    client.set_experiment_tag(experiment.experiment_id, EXPERIMENT_NAME_TAG, name)
    client.rename_experiment(experiment.experiment_id, f"{name} (deleted {stamp})")
    client.delete_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def restore(client: MlflowClient, name: str) -> str:
    """Undo the last deletion of an experiment; trainings that were deleted before it stay so.

    Returns:
        Its id.

    Raises:
        NotFound: None of this name is deleted.
        NotAllowed: A new one has the name.
    """
    there = client.get_experiment_by_name(name)
    if there is not None and there.lifecycle_stage == "active":
        raise NotAllowed(
            f"There is an experiment {name}: it is not deleted, or a new one took its name",
            where=f"experiment {name}",
            mend="rename that one in MLflow's pages first",
        )
    gone = [
        one
        for one in records.pages(client.search_experiments, view_type=DELETED)
        if name in (one.tags.get(EXPERIMENT_NAME_TAG), one.name)
    ]
    if not gone:
        raise NotFound(f"No experiment {name} is deleted", mend="give the name that it had")
    last = max(gone, key=lambda one: one.last_update_time or 0)
    deleted = records.search(client, experiment=last.name, view=DELETED)
    client.restore_experiment(last.experiment_id)  # brings back all its runs
    for run in deleted:
        if DELETED_TAG in run.tags:
            client.delete_run(run.run_id)
    if last.name != name:
        client.rename_experiment(last.experiment_id, name)
    return str(last.experiment_id)


def _experiment(client: MlflowClient, name: str) -> Any:
    found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        known = sorted(one.name for one in records.pages(client.search_experiments))
        raise NotFound(
            f"There is no experiment {name}",
            where=str(client.tracking_uri),
            allowed=listed(known) or "none is there yet",
        )
    return found
