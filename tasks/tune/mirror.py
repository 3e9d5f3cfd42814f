"""Mirror trials to MLflow as they report, and end the study when it has what it wanted.

Everything here runs in the driver, where Ray calls it between results.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from ray.tune import Callback, Stopper

from tasks.train.tags import (
    ELAPSED_TAG,
    ENDED_TAG,
    ERROR_TAG,
    PARENT_TAG,
    POINT_TAG,
    STATUS_TAG,
    STOP_TAG,
    STUDY_TAG,
    TRIAL_TAG,
)
from tasks.tune.records import FINAL, Study, Trial
from tasks.tune.trial import ENDED, EPOCH, EPOCHS, NUMBER, POINT, TrialJob, trial_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ASK_S = 3.0
"""Time between two looks at whether somebody asked the study to end."""
_STATES = {"succeeded": "FINISHED", "early stopped": "FINISHED", "killed": "KILLED"}


class Mirror(Callback):  # type: ignore[misc]
    """One MLflow run a trial, nested below the study's run.

    Args:
        client: MLflow.
        experiment_id: Experiment of the study.
        parent: The study's run.
        study: Kept up to date.
        job: Whose folders are kept small.
        known: Trials of an earlier attempt that go on, by number.
        changed: Called when a trial starts or ends.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        parent: str,
        study: Study,
        job: TrialJob,
        known: Mapping[int, Trial],
        changed: Callable[[], None],
    ) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self.parent = parent
        self.study = study
        self.job = job
        self.known = known
        self.changed = changed
        self._broken = False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing to keep: Ray writes all that it was given to a file that is never read."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the trial's run; a trial that goes on after a pause keeps the one it has."""
        with self._told():
            self._open(trial)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Note that something failed here: what Ray then says of its trials is not how they ended."""
        try:
            yield
        except BaseException:
            self._broken = True
            raise

    def _open(self, trial: Any) -> None:
        if trial.trial_id in self.study.trials:
            return
        number, point = int(trial.config[NUMBER]), dict(trial.config[POINT])
        if (before := self.known.get(number)) is not None:
            self.client.update_run(before.run_id, status="RUNNING")
            self.client.set_tag(before.run_id, STATUS_TAG, "running")
            opened = replace(before, id=trial.trial_id, status="running", ended="", error="")
        else:
            opened = Trial(trial.trial_id, number, point, self._new_run(number, point), "running")
        self.study.trials[trial.trial_id] = opened
        self.changed()

    def _new_run(self, number: int, point: Mapping[str, Any]) -> str:
        tags = {
            PARENT_TAG: self.parent,
            STUDY_TAG: self.parent,
            TRIAL_TAG: str(number),
            POINT_TAG: json.dumps(point),
            STATUS_TAG: "running",
        }
        run = self.client.create_run(self.experiment_id, run_name=f"trial {number}", tags=tags)
        params = [Param(name, str(value)) for name, value in point.items()]
        self.client.log_batch(run.info.run_id, params=params)
        return str(run.info.run_id)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Log one epoch."""
        with self._told():
            self._log(trial, result)

    def _log(self, trial: Any, result: dict[str, Any]) -> None:
        known = self.study.trials[trial.trial_id]
        if ENDED in result:
            known.ended = str(result[ENDED])
            return
        epoch, now_ms = int(result[EPOCH]), int(time.time() * 1000)
        self.study.hear(known, float(result[self.study.metric]), epoch)
        names = [name for name in result if name.startswith(("train_", "validation_"))]
        metrics = [Metric(name, float(result[name]), now_ms, epoch) for name in names]
        metrics.append(Metric(EPOCHS, float(result[EPOCHS]), now_ms, epoch))
        self.client.log_batch(known.run_id, metrics=metrics)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the run of a trial that returned or was stopped."""
        with self._told():
            self._close(self.study.trials[trial.trial_id])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the run of a trial that raised."""
        if not self._broken:
            with self._told():
                self._close(self.study.trials[trial.trial_id], _error_of(trial))

    def close_rest(self) -> None:
        """Close what was still running when the study ended."""
        for trial in self.study.trials.values():
            if trial.status in ("created", "running"):
                trial.status = "killed"
                self._end(trial)

    def _close(self, trial: Trial, error: str = "") -> None:
        self.study.close(trial, error=error)
        self._end(trial)
        self._sweep()
        self.client.set_tag(self.parent, ELAPSED_TAG, f"{self.study.seconds:.1f}")
        self.changed()

    def _sweep(self) -> None:
        """Remove the checkpoints of trials that are over, but for those of the best one."""
        best = self.study.best
        for trial in self.study.trials.values():
            if trial.status in FINAL and trial is not best:
                shutil.rmtree(trial_folder(self.job, trial.number), ignore_errors=True)

    def _end(self, trial: Trial) -> None:
        tags = {STATUS_TAG: trial.status, ENDED_TAG: trial.ended or trial.status, ERROR_TAG: trial.error}
        metrics = []
        if trial.best is not None:
            now_ms = int(time.time() * 1000)
            metrics = [
                Metric(f"best_{self.study.metric}", trial.best, now_ms, 0),
                Metric("best_epoch", float(trial.best_epoch or 0), now_ms, 0),
            ]
        set_tags = [RunTag(key, value) for key, value in tags.items() if value]
        self.client.log_batch(trial.run_id, metrics=metrics, tags=set_tags)
        self.client.set_terminated(trial.run_id, _STATES.get(trial.status, "FAILED"))


class Goal(Stopper):  # type: ignore[misc]
    """Ends the study when the goal is reached, when too many trials failed, or when it is asked to.

    Args:
        study: Is told that it was asked.
        client: MLflow.
        parent: The study's run.
    """

    def __init__(self, study: Study, client: MlflowClient, parent: str) -> None:
        self.study = study
        self.client = client
        self.parent = parent
        self.looked_at = time.monotonic()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never stops one trial alone: that is the scheduler's part."""
        return False

    def stop_all(self) -> bool:
        if time.monotonic() - self.looked_at > _ASK_S:
            self.looked_at = time.monotonic()
            with suppress(MlflowException):  # it is asked again
                self.study.stop_asked = STOP_TAG in self.client.get_run(self.parent).data.tags
        return self.study.should_end


def _error_of(trial: Any, length: int = 400) -> str:
    """The error's own line: the last one of the trial's traceback that is not indented."""
    # Ray's get_error looks in the study's storage, where the file is put only later.
    path = trial.error_file
    trace = Path(path).read_text(errors="replace").strip() if path and Path(path).exists() else ""
    lines = [line for line in trace.splitlines() if line and not line.startswith((" ", "\t"))]
    return (lines[-1] if lines else "the trial's process ended without a message")[:length]
