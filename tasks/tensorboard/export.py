"""Keep a folder of event files in step with MLflow: works for every algorithm, older runs and running ones.

<folder>/<run name> <id>/events.out.tfevents.…     from the metrics' histories and the parameters
<folder>/<run name> <id>/own/…                     event files that own code wrote: artifacts tensorboard/
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from tasks.refs import DATASET_TAG
from tasks.tensorboard.config import MOST_VIEWED
from tasks.tensorboard.events import EventFile, settings_table
from tasks.train.tags import PARENT_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import FileInfo, Run

OWN_EVENTS = "tensorboard"
"""Folder of a run's artifacts that holds event files of the user's code."""
MOST_OWN_BYTES = 200 * 2**20
_MOST_PARENTS = 5  # a sweep has studies, and those have trials; tags of others may lead in circles

_log = logging.getLogger("tensorboard view")


@dataclass
class _Exported:
    """How far the export of one run is."""

    folder: Path
    file: EventFile | None  # None once the run has ended
    points: dict[str, int] = field(default_factory=dict)  # written, by metric
    latest: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    own: dict[str, int] = field(default_factory=dict)  # bytes fetched, by path
    ended: bool = False


class Export:
    """Writes what MLflow has of some runs.

    Args:
        client: MLflow.
        folder: Where to; made where it is missing.
        runs: Ids of runs; or none, for
        experiment_id: an experiment, whose newest runs are shown, those to come among them.
        datasets: Datasets whose runs of the experiment are shown; None for all.
    """

    def __init__(
        self,
        client: MlflowClient,
        folder: Path,
        runs: Sequence[str],
        experiment_id: str = "",
        datasets: Collection[str] | None = None,
    ) -> None:
        self._client = client
        self._folder = folder
        self._runs = runs
        self._experiment_id = experiment_id
        self._datasets = datasets
        self._hidden: set[str] = set()
        self._faults: dict[str, str] = {}  # the last of each run, which is said once
        self._exported: dict[str, _Exported] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def update(self) -> bool:
        """Write what is new; says whether anything is still running, or may begin to.

        A run that is gone, or whose files cannot be fetched, keeps no other back.

        Raises:
            MlflowException: MLflow does not answer.
        """
        if self._experiment_id:
            newest = ["attributes.start_time DESC"]
            runs = self._client.search_runs([self._experiment_id], max_results=MOST_VIEWED, order_by=newest)
            found: list[tuple[str, Run | None]] = [(run.info.run_id, run) for run in runs]
        else:
            found = [(run_id, None) for run_id in self._runs]
        busy = bool(self._experiment_id)
        for run_id, run in found:
            try:
                busy = self._update(run or self._client.get_run(run_id)) or busy
            except (MlflowException, OSError) as error:
                if "API request to" in str(error):  # what its client says when nobody answers
                    raise
                if self._faults.get(run_id) != str(error):
                    _log.warning("The run %s could not be brought up to date: %s", run_id, error)
                self._faults[run_id] = str(error)
        return busy

    def _update(self, run: Run) -> bool:
        """Write what is new of one run; says whether it is still running."""
        known = self._exported.get(run.info.run_id)
        if known is None:
            if run.info.run_id in self._hidden:
                return False
            if self._experiment_id and not may_be_shown(self._client, run, self._datasets):
                self._hidden.add(run.info.run_id)
                return False
            known = self._exported[run.info.run_id] = self._begin(run)
        running = run.info.status in ("RUNNING", "SCHEDULED")
        if running or not known.ended:
            if known.file is None:  # it had ended, and was taken up again
                known.file = EventFile(known.folder)
            self._metrics(run, known, known.file)
            self._own_events(run, known)
            known.ended = not running
            if known.ended:
                known.file.close()
                known.file = None
        return running

    def _begin(self, run: Run) -> _Exported:
        name = re.sub(r"[^\w.\- ]+", "_", run.info.run_name or "run").strip()[:80]
        folder = self._folder / f"{name} {run.info.run_id[:8]}"
        file = EventFile(folder)
        if run.data.params:
            file.text("settings", settings_table(run.data.params))
        return _Exported(folder, file)

    def _metrics(self, run: Run, known: _Exported, file: EventFile) -> None:
        for metric in run.data._metric_objs:  # each with its last step, without its history
            last = (metric.timestamp, metric.step, metric.value)
            if known.latest.get(metric.key) == last:
                continue
            history = self._client.get_metric_history(run.info.run_id, metric.key)
            points = sorted((point.timestamp / 1000, point.step, point.value) for point in history)
            new = points[known.points.get(metric.key, 0) :]
            # Epochs of a killed training may reach MLflow after later ones: lines would run backwards.
            file.scalars(metric.key, sorted(new, key=itemgetter(1)))
            known.points[metric.key] = len(points)
            known.latest[metric.key] = last
        file.flush()

    def _own_events(self, run: Run, known: _Exported) -> None:
        """Fetch event files of the user's code that are new or have grown."""
        left = MOST_OWN_BYTES - sum(known.own.values())
        for found in self._below(run.info.run_id, OWN_EVENTS):
            size = found.file_size or 0
            inside = Path(found.path).relative_to(OWN_EVENTS)
            if "tfevents" not in inside.name or known.own.get(found.path) == size or size > left:
                continue
            # By way of a name that TensorBoard does not look at, since it reads files as they grow.
            target = known.folder / "own" / inside
            fetched = Path(
                self._client.download_artifacts(run.info.run_id, found.path, str(self._scratch(known)))
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            fetched.replace(target)
            known.own[found.path] = size
            left -= size

    def _below(self, run_id: str, folder: str, depth: int = 4) -> list[FileInfo]:
        files: list[FileInfo] = []
        for found in self._client.list_artifacts(run_id, folder):
            if not found.is_dir:
                files.append(found)
            elif depth:
                files += self._below(run_id, found.path, depth - 1)
        return files

    def _scratch(self, known: _Exported) -> Path:
        folder = self._folder.with_name("fetched") / known.folder.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def may_be_shown(client: MlflowClient, run: Run, datasets: Collection[str] | None) -> bool:
    """Whether a run is on one of the datasets, or on none; a trial is on its search's, which must be there.

    Args:
        client: MLflow.
        run: The run.
        datasets: Names of datasets; None for any.
    """
    if datasets is None:
        return True
    for _ in range(_MOST_PARENTS):
        if DATASET_TAG in run.data.tags or PARENT_TAG not in run.data.tags:
            break
        try:
            run = client.get_run(run.data.tags[PARENT_TAG])
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return False
    else:
        return False
    name = run.data.tags.get(DATASET_TAG, "").partition("@")[0]
    return not name or name in datasets
