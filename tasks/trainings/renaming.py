"""New words for a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.errors import InvalidSettings
from tasks.train.own_tags import MOST_TAGS
from tasks.trainings.config import RenameConfig
from tasks.trainings.records import NOTE_TAG, RunFacts

if TYPE_CHECKING:
    from mlflow import MlflowClient


def rename(client: MlflowClient, run: RunFacts, config: RenameConfig) -> str:
    """Give a training another name, description or tags; returns its name.

    Raises:
        InvalidSettings: It would have more tags of its own than it may.
    """
    kept = {**run.own_tags, **config.tags}
    if len([name for name, value in kept.items() if value]) > MOST_TAGS:
        raise InvalidSettings(
            f"The training would have {len(kept)} tags of its own",
            where=f"run {run.run_id}",
            allowed=f"up to {MOST_TAGS}",
            mend="take some away, with an empty value",
        )
    if config.name:
        client.update_run(run.run_id, name=config.name)
    if config.description is not None:
        client.set_tag(run.run_id, NOTE_TAG, config.description)
    for name, value in config.tags.items():
        if value:
            client.set_tag(run.run_id, name, value)
        elif name in run.own_tags:
            client.delete_tag(run.run_id, name)
    return config.name or run.name
