"""Deletion of trainings and experiments: refused while something stands on them, undone while it can be.

MLflow keeps what was deleted until `mlflow gc` removes it, and has no word for that over its API. So a
training is deleted in one of two ways: as MLflow does, to be restored, or for good, with the files of
its run and model gone and only the record (parameters, metrics, tags) left to `mlflow gc`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from tasks.data.listed import listed
from tasks.data.sources.addresses import is_inside, local_path
from tasks.errors import NotAllowed, NotFound
from tasks.train import kept_models
from tasks.train.tags import BEST_RUN_TAG
from tasks.train.work_folder import KEPT_FILE, RUN_FILE
from tasks.trainings import records
from tasks.trainings.records import DELETED, DELETED_TAG, RunFacts

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LIVE_RUNS = ("RUNNING", "SCHEDULED")


@dataclass(frozen=True)
class Doomed:
    """What goes with a training.

    Attributes:
        run: The training, a study or a sweep.
        nested: Runs below it: the trials of a study, the trainings of a sweep, what own code opened.
        models: Logged models of all these runs, by id, with the place of their files.
        folders: Checkpoints on this host.
        copies: Models that were fetched to this host.
        elsewhere: Folders that users chose for checkpoints, in which none is known to be of these runs:
            what is there is of others, was moved, or lies on another host.
    """

    run: RunFacts
    nested: tuple[RunFacts, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    copies: tuple[Path, ...] = ()
    elsewhere: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[RunFacts, ...]:
        return (self.run, *self.nested)

    def gives(self, start: str) -> bool:
        """Whether what a training starts from is the weights of one of these runs.

        Args:
            start: A run id, `models:/m-…` or a path; what is registered is in the way by itself.
        """
        if start.startswith(("/", "file:///")):
            path = os.path.realpath(local_path(start))
            return any(is_inside(path, os.path.realpath(folder)) for folder in self.folders)
        named = [*(run.run_id for run in self.runs), *(f"models:/{model}" for model in self.models)]
        return start in named


@dataclass(frozen=True)
class Endpoint:
    """An endpoint that is switched on.

    Attributes:
        model: The registered model that it serves.
        alias: The alias that it follows.
        source: Where the files of the version that it answers with came from, such as `models:/m-…`; empty
            where it has answered with none yet.
    """

    name: str
    model: str
    alias: str
    source: str = ""


def doomed(client: MlflowClient, run: RunFacts, work: Path) -> Doomed:
    """Find what belongs to a training.

    Args:
        client: MLflow.
        run: The training, study or sweep.
        work: The work folder of this host: `train/` has checkpoints, unless a training was told another
            place, `models/` the models that were fetched.
    """
    below = tuple(records.nested(client, run))
    runs = {one.run_id for one in (run, *below)}
    models = {model: client.get_logged_model(model).artifact_location for model in _models(client, runs)}
    folders, elsewhere = list(_work_folders(work / "train", runs)), []
    for chosen in _chosen_folders(client, (run, *below)):
        found = list(_work_folders(Path(local_path(chosen)), runs))
        folders += found
        elsewhere += [] if found else [chosen]
    names = (*runs, *models)
    copies = [path for path in sorted((work / "models").glob("*")) if any(one in path.name for one in names)]
    return Doomed(run, below, models, tuple(folders), tuple(copies), tuple(elsewhere))


def obstacles(
    client: MlflowClient,
    what: Doomed,
    live: Sequence[str],
    waiting: Sequence[str],
    endpoints: Sequence[Endpoint],
    templates: Sequence[str],
) -> list[str]:
    """What is in the way of a deletion, one sentence each, with its mend.

    Args:
        client: MLflow.
        what: What is to go.
        live: Flow runs of it that have not ended, by name.
        waiting: Drafts and other flow runs that start from its weights.
        endpoints: All that are switched on.
        templates: Those that were made from it, or start from its weights, by name.
    """
    found: list[str] = []
    running = [one.name for one in what.runs if one.status in _LIVE_RUNS]
    if live or running:
        names = listed(list(dict.fromkeys([*live, *running])))
        found.append(f"it is still running ({names}): stop it, or wait for its end")
    if waiting:
        names = listed(list(waiting))
        found.append(f"{names} start from its weights: delete those that are only planned, or wait")
    sources = {f"models:/{model}" for model in what.models}
    answering = {one.name for one in endpoints if one.source in sources}
    for run in what.runs:
        for version in records.registered(client, run.run_id).get(run.run_id, []):
            of_model = [one for one in endpoints if one.model == version.model]
            served = [one.name for one in of_model if one.alias in version.aliases or one.name in answering]
            answering.difference_update(served)
            found.append(
                f"{_which(what, run)}is the registered model {version}"
                + (f", which the endpoints {listed(served)} serve" if served else "")
                + ": "
                + ("stop them with the flow stop-endpoint, then " if served else "")
                + "delete that version in MLflow's pages"
            )
    if templates:
        origin = "it or a run below it" if what.nested else "it"
        found.append(
            f"the templates {listed(list(templates))} came from {origin}, or start from its weights: delete "
            "those with the flow delete-template"
        )
    if answering:  # their version was deleted in MLflow's pages, and no other has taken its place
        found.append(
            f"the endpoints {listed(sorted(answering))} answer with its model, though no version of it is "
            "registered any more: stop them with the flow stop-endpoint, or move their alias"
        )
    parent = what.run.parent
    if parent:
        search = _found(client, parent)
        if search is not None and search.lifecycle == "active":
            part = "the best of" if search.tags.get(BEST_RUN_TAG) == what.run.run_id else "a part of"
            found.append(f"it is {part} {search.name}: delete that ({parent}), and it goes with it")
    return found


def require_none(what: str, found: Sequence[str]) -> None:
    """Refuse with all that is in the way.

    Raises:
        NotAllowed: Something is.
    """
    if found:
        raise NotAllowed(
            f"The {what} cannot be deleted: " + "; ".join(found),
            where=what,
            mend="as said with each, then delete again",
        )


def listing(what: Doomed, for_good: bool) -> list[str]:
    """What a deletion takes away, one line each."""
    lines = [f"MLflow run {one.run_id} ({one.name})" for one in what.runs]
    if for_good:
        lines += [f"the files of MLflow run {one.run_id}" for one in what.runs]
        lines += [f"logged model {model} and its files" for model in sorted(what.models)]
        lines += [f"checkpoints in {folder}" for folder in what.folders]
        lines += [f"the copy of a model in {folder}" for folder in what.copies]
        lines += [
            f"not deleted: checkpoints in {folder}, where none is known to be of this training; look there"
            for folder in what.elsewhere
        ]
    return lines


def delete(client: MlflowClient, what: Doomed, user: str, for_good: bool) -> None:
    """Delete a training and all that belongs to it; once more where it was broken off.

    Args:
        client: MLflow.
        what: What goes.
        user: Who asked; written on the runs.
        for_good: Delete files as well.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds")
    note = json.dumps({"by": user, "at": at, "for_good": for_good, "with": what.run.run_id})
    # The records go last: whoever deletes again after a kill still finds what is left.
    for run in what.runs:
        if run.lifecycle == "active":
            client.set_tag(run.run_id, DELETED_TAG, note)
    if for_good:
        for folder in what.folders:  # first: the files of the run say where they are
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_suffix(".json").unlink(missing_ok=True)
        for copy in what.copies:
            kept_models.remove(copy)
        for model, place in what.models.items():
            _delete_files(client, place)
            client.delete_logged_model(model)
        for run in what.runs:
            _delete_files(client, run.artifact_uri)
    for run in reversed(what.runs):
        if run.lifecycle == "active":
            client.delete_run(run.run_id)


def restore(client: MlflowClient, run: RunFacts) -> list[RunFacts]:
    """Undo a deletion; returns the runs that are back.

    Raises:
        NotAllowed: It was deleted for good, or is not deleted.
    """
    if run.lifecycle != "deleted":
        raise NotAllowed(f"The training {run.name} is not deleted", where=f"run {run.run_id}")
    if deleted_for_good(run):
        raise NotAllowed(
            f"The training {run.name} was deleted for good: its files are gone",
            where=f"run {run.run_id}",
            mend="train again, with the flow copy-training or train",
        )
    if client.get_experiment(run.experiment_id).lifecycle_stage != "active":
        raise NotAllowed(
            f"The experiment of the training {run.name} is deleted",
            where=f"experiment {run.experiment}",
            mend="restore it first, with the flow restore-experiment",
        )
    nested = records.nested(client, run, view=DELETED)
    back = [run, *(one for one in nested if _note(one).get("with") == run.run_id)]
    for one in back:
        client.restore_run(one.run_id)
        client.delete_tag(one.run_id, DELETED_TAG)
    return back


def deleted_for_good(run: RunFacts) -> bool:
    """Whether the files of a run were deleted."""
    return bool(_note(run).get("for_good"))


def _found(client: MlflowClient, run_id: str) -> RunFacts | None:
    try:
        return records.read(client, run_id)
    except NotFound:
        return None


def _which(what: Doomed, run: RunFacts) -> str:
    return "it " if run.run_id == what.run.run_id else f"its part {run.name} ({run.run_id}) "


def _note(run: RunFacts) -> dict[str, Any]:
    try:
        note = json.loads(run.tags.get(DELETED_TAG, "{}"))
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def _work_folders(work: Path, runs: Iterable[str]) -> Iterable[Path]:
    """Work folders that trainings left when they were killed, or that keep their checkpoints."""
    wanted = set(runs)
    for file in sorted([*work.glob(f"*/{RUN_FILE}"), *work.glob(f"*/{KEPT_FILE}")]):
        try:
            if json.loads(file.read_text()).get("run_id") in wanted:
                yield file.parent
        except (OSError, ValueError, AttributeError):
            continue


def _chosen_folders(client: MlflowClient, runs: Iterable[RunFacts]) -> list[str]:
    """Folders that the settings of trainings name for checkpoints."""
    found = []
    for run in runs:
        settings = records.settings(client, run) if run.is_training else None
        found.append(str((settings or {}).get("checkpoint_folder", "")))
    return list(dict.fromkeys(filter(None, found)))


def _models(client: MlflowClient, runs: Iterable[str]) -> list[str]:
    """Ids of the logged models of runs, those that are deleted already left out."""
    found = []
    for run_id in sorted(runs):
        outputs = client.get_run(run_id).outputs
        for output in outputs.model_outputs if outputs else []:
            try:
                found.append(client.get_logged_model(output.model_id).model_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # deleted before
                    raise
    return found


def _delete_files(client: MlflowClient, uri: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    get_artifact_repository(uri, tracking_uri=client.tracking_uri).delete_artifacts()
