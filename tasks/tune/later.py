"""What can be done with a study besides running it: let it go on, take a trial of it, have it end."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotFound
from tasks.refs import DatasetRef, RunRef
from tasks.train.tags import FLOW_RUN_TAG, KIND_TAG, STOP_TAG, STUDY_TAG, TRIAL_TAG
from tasks.train.train import train
from tasks.train.work_folder import RUN_FILE
from tasks.tune import ranges
from tasks.tune.config import ExtendConfig, SubmitConfig, TuneConfig
from tasks.tune.recorded import Recorded, elapsed_s, settings_of, trials_of
from tasks.tune.records import Study, objective
from tasks.tune.study import training_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


def extended(client: MlflowClient, config: ExtendConfig, flow_run: str) -> tuple[DatasetRef, TuneConfig]:
    """The dataset and the settings with which a study goes on; an earlier wish that it end is taken back.

    Args:
        client: MLflow.
        config: The study, and by how much.
        flow_run: Who asks: an earlier attempt of it has widened the settings already.

    Raises:
        NotFound: There is no such study.
        InvalidSettings: It runs, or the wider space is of other hyperparameters.
    """
    before, ref = settings_of(client, config.study)
    run = client.get_run(config.study)
    if flow_run and run.data.tags.get(FLOW_RUN_TAG) == flow_run:
        return ref, before
    if run.info.status == "RUNNING":
        raise InvalidSettings(
            f"the study {config.study} runs",
            where="study",
            mend="wait for its end, or have it end by submitting a trial with stop_the_rest",
        )
    _, searched = ranges.resolve(before, ref.problem, ref.rows)
    names, wider = [one.name for one in searched], [one.name for one in config.search]
    if wider and sorted(wider) != sorted(names):
        raise InvalidSettings(
            f"the study searched {', '.join(names)}, and the wider space is of {', '.join(wider)}",
            where="search",
            allowed="the same hyperparameters, with other ranges",
            mend="name them all, or start a new study",
        )
    if STOP_TAG in run.data.tags:
        client.delete_tag(config.study, STOP_TAG)
    metric, _ = objective(ref.problem, before.metric)
    return ref, before.model_copy(
        update={
            "max_trials": len(trials_of(client, config.study, metric)) + config.more_trials,
            "time_limit_s": int(elapsed_s(client, config.study)) + config.more_time_s,
            "goal": config.goal,
            **({"search": config.search} if config.search else {}),
        }
    )


def submit(
    config: SubmitConfig,
    store: DatasetStore,
    client: MlflowClient,
    work_folder: Path,
    checkpoints: Path | None = None,
    *,
    tags: Mapping[str, str] | None = None,
) -> RunRef:
    """Make a trial an ordinary training, which can be registered and served, while others may still run.

    Args:
        config: Which trial of which study.
        store: Where dataset versions are.
        client: MLflow.
        work_folder: For checkpoints; may be deleted when this returns.
        checkpoints: The study's folder, if it is on this host: a trial that is over is not fitted anew.
        tags: More tags for the run.

    Raises:
        NotFound: There is no such study, or no such trial.
        InvalidSettings: The trial reported nothing, or no trial has.
    """
    settings, ref = settings_of(client, config.study)
    metric, mode = objective(ref.problem, settings.metric)
    recorded = trials_of(client, config.study, metric)
    chosen = _chosen(config, recorded, Study(metric, mode, len(recorded)))
    algorithm, _ = ranges.resolve(settings, ref.problem, ref.rows)
    left = checkpoints / "trials" / f"trial-{chosen.trial.number}" if checkpoints else None
    if left is not None and chosen.is_over and left.is_dir():
        shutil.copytree(
            left, work_folder, ignore=shutil.ignore_patterns(RUN_FILE), dirs_exist_ok=True
        )  # without the run of another training
    if config.stop_the_rest:
        client.set_tag(config.study, STOP_TAG, "yes")
    return train(
        ref,
        training_of(algorithm, settings, chosen.trial.point),
        store,
        client,
        work_folder,
        tags={
            **(tags or {}),
            STUDY_TAG: config.study,
            TRIAL_TAG: str(chosen.trial.number),
            KIND_TAG: "submitted trial",
        },
        parent=config.study,
    )


def _chosen(config: SubmitConfig, recorded: list[Recorded], study: Study) -> Recorded:
    for one in recorded:
        for epoch, value in sorted(one.values.items()):
            study.hear(one.trial, value, epoch)
        study.trials[one.trial.id] = one.trial
    numbers = [one.trial.number for one in recorded]
    if config.trial is not None and config.trial not in numbers:
        raise NotFound(
            f"the study {config.study} has no trial {config.trial}",
            where="trial",
            allowed=f"1 to {max(numbers)}" if numbers else "none yet",
            mend="take a number from its table of trials",
        )
    best = study.best
    number = config.trial if config.trial is not None else best.number if best else None
    for one in recorded:
        if one.trial.number == number and one.trial.best is not None:
            return one
    raise InvalidSettings(
        f"trial {number} has reported no {study.metric}"
        if number
        else f"no trial has reported {study.metric}",
        where="trial",
        mend="wait until it has finished an epoch, or choose another one",
    )
