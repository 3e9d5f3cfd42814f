"""One training as an MLflow run: opened by the driver, closed in a true state whatever happens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException

from tasks.errors import NotFound
from tasks.refs import DatasetRef
from tasks.train.algorithms.fit import Metrics
from tasks.train.metric_stream import MetricStream
from tasks.train.system_metrics import SYSTEM_PREFIX, SystemMetrics
from tasks.train.tags import PARENT_TAG, STATUS_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

MLFLOW_DIGEST_LENGTH = 36
_LAST_WORDS_S = 5.0
"""How long a run that ends early waits for metrics that MLflow has not taken yet."""
_PARAM_LENGTH = 6000


class TrackedRun:
    """An open MLflow run.

    Args:
        client: MLflow.
        run_id: The run.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client = client
        self.run_id = run_id
        self.ended_as = "succeeded"
        self._metrics = MetricStream(lambda metrics: client.log_batch(run_id, metrics=metrics))

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags, all in one call."""
        self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def params(self, values: Mapping[str, Any]) -> None:
        """Set parameters, all in one call; the same ones may be set again."""
        params = [Param(key, str(value)[:_PARAM_LENGTH]) for key, value in values.items()]
        self.client.log_batch(self.run_id, params=params)

    def metrics(self, values: Metrics, step: int = 0) -> None:
        """Log metrics of one step in one call."""
        now_ms = int(time.time() * 1000)
        self.client.log_batch(
            self.run_id, metrics=[Metric(key, value, now_ms, step) for key, value in values.items()]
        )

    def stream(self, step: int, values: Metrics) -> None:
        """Log metrics soon, from a thread, so that logging does not slow a fit."""
        self._metrics.put(values, step)

    def flush(self) -> None:
        """Wait until MLflow has what was streamed."""
        self._metrics.flush()

    def close(self) -> None:
        """End the streaming; what MLflow has not taken yet gets a few seconds more."""
        self._metrics.close(_LAST_WORDS_S)

    def complete(self, history: Sequence[Metrics]) -> None:
        """Log the epochs that MLflow lacks: those that a killed process finished but did not log."""
        self.flush()
        name = next(iter(history[0]))
        logged = {metric.step for metric in self.client.get_metric_history(self.run_id, name)}
        for epoch, metrics in enumerate(history, start=1):
            if epoch not in logged:
                self.stream(epoch, metrics)
        self.flush()

    def input(self, dataset: DatasetRef, splits: Mapping[str, int]) -> None:
        """Record the dataset version that is learned from."""
        entity = Dataset(
            name=str(dataset),
            digest=dataset.digest[:MLFLOW_DIGEST_LENGTH],
            source_type="trainyard",
            source=json.dumps({"uri": dataset.url}),
            profile=json.dumps(dict(splits)),
        )
        inputs = [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])]
        try:
            self.client.log_inputs(self.run_id, inputs)
        except MlflowException:
            # Two runs that are the first to name a dataset collide in MLflow's database; by the second
            # try the dataset is there.
            self.client.log_inputs(self.run_id, inputs)


@contextmanager
def tracked_run(
    client: MlflowClient,
    experiment: str,
    *,
    name: str,
    tags: Mapping[str, str],
    resume: str | None = None,
    parent: str | None = None,
) -> Iterator[TrackedRun]:
    """Open a run, and close it as it ended; what it takes of this host is charted meanwhile.

    A run ends as `FINISHED` with the status tag `succeeded` (or what `ended_as` was set to), as
    `FAILED`/`failed` after an error, and as `KILLED`/`aborted` when the process is being stopped; an error
    after `ended_as` was set to `aborted` is what a stop led to.

    Args:
        client: MLflow.
        experiment: Made where it is missing.
        name: The run's name for people.
        tags: Set at the beginning.
        resume: Id of an unfinished run to open again, whoever closed it and as what.
        parent: Run that this one is nested below, on whose page the host is charted.
    """
    started = {**tags, STATUS_TAG: "running"}
    if resume:
        run = TrackedRun(client, resume)
        run.tag(started)  # first of all: its flow run is alive again
        client.update_run(resume, status=RunStatus.to_string(RunStatus.RUNNING))
    else:
        if parent:
            started[PARENT_TAG] = parent
        made = client.create_run(experiment_id(client, experiment), run_name=name, tags=started)
        run = TrackedRun(client, made.info.run_id)
    system = None if parent else SystemMetrics(run.stream, _samples(client, resume))
    try:
        if system:
            system.start()
        try:
            yield run
        finally:
            if system:
                system.stop()
        run.flush()
    except Exception:
        aborted = run.ended_as == "aborted"
        with suppress(MlflowException):  # the error says more than that MLflow is away
            _close(run, "aborted" if aborted else "failed", RunStatus.KILLED if aborted else RunStatus.FAILED)
        raise
    except BaseException:  # cancelled from outside: KeyboardInterrupt, SystemExit, Prefect's termination
        with suppress(MlflowException):
            _close(run, "aborted", RunStatus.KILLED)
        raise
    _close(run, run.ended_as, RunStatus.FINISHED if run.ended_as == "succeeded" else RunStatus.KILLED)


def experiment_id(client: MlflowClient, name: str) -> str:
    """Id of an experiment, made where it is missing.

    Raises:
        NotFound: It was deleted, and MLflow keeps its name.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another training was faster
    if found is None or found.lifecycle_stage != "active":
        raise NotFound(
            f"the experiment '{name}' was deleted",
            where="experiment",
            mend="restore it in MLflow, or choose another name",
        )
    return str(found.experiment_id)


def can_be_resumed(client: MlflowClient, run_id: str) -> bool:
    """Whether a run can be opened again: it is there and did not finish.

    Own code may close the run of its training; the tag says whether the training has ended.
    """
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    ended = run.info.status == "FINISHED" and run.data.tags.get(STATUS_TAG) != "running"
    return bool(run.info.lifecycle_stage == "active" and not ended)


def _samples(client: MlflowClient, run_id: str | None) -> int:
    """How many samples of the host an earlier attempt at a run has logged."""
    if run_id is None:
        return 0
    metrics = client.get_run(run_id).data._metric_objs  # each with its last step, without its history
    return max((metric.step + 1 for metric in metrics if metric.key.startswith(SYSTEM_PREFIX)), default=0)


def _close(run: TrackedRun, status: str, state: int) -> None:
    run.close()
    run.tag({STATUS_TAG: status})
    run.client.set_terminated(run.run_id, RunStatus.to_string(state))
