"""Close in MLflow what has ended: a training whose flow run is over does not run any more.

A training closes its MLflow run itself, unless its process is killed. Own code may have closed it before,
as finished; then the tag still says that it runs. A run that is closed here may be taken up again: a training
that is repeated with the same inputs sets it back to `RUNNING`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import UUID

from infra.settings import Settings
from infra.stack import http
from tasks.train.tags import FLOW_RUN_TAG, OPENED_BY_TAG, PARENT_TAG, STATUS_TAG

_ENDS = {
    "COMPLETED": ("FAILED", "failed"),
    "FAILED": ("FAILED", "failed"),
    "CRASHED": ("FAILED", "failed"),
    "CANCELLED": ("KILLED", "aborted"),
}
"""Final state of a flow run → status and tag of what it left running in MLflow."""


@dataclass
class TrackingReaper:
    """Closes MLflow runs of flow runs that are over.

    A run is closed when two rounds in a row find it so: one that is just being taken up again names its
    old flow run for a moment, and one that is about to end closes itself.

    Attributes:
        settings: The stack's settings.
        suspects: MLflow runs that the last round found to be left behind.
    """

    settings: Settings
    suspects: set[str] = field(default_factory=set)

    def round(self) -> list[str]:
        """Look once; returns the names of the runs that were closed.

        Raises:
            Unavailable: MLflow or Prefect does not answer.
        """
        flow_runs = {run["info"]["run_id"]: (run, self._flow_run(run)) for run in self._running()}
        states = self._states({flow_run for _, flow_run in flow_runs.values() if flow_run})
        left = {
            run_id: (run, _ENDS[states[flow_run]])
            for run_id, (run, flow_run) in flow_runs.items()
            if states.get(flow_run) in _ENDS
        }
        closed = []
        for run_id in self.suspects & left.keys():
            run, (status, tag) = left[run_id]
            self._mlflow("runs/set-tag", {"run_id": run_id, "key": STATUS_TAG, "value": tag})
            end = {"run_id": run_id, "status": status, "end_time": int(time.time() * 1000)}
            self._mlflow("runs/update", end)
            closed.append(str(run["info"].get("run_name", run_id)))
        self.suspects = set(left) - self.suspects
        return closed

    def _running(self) -> list[dict[str, Any]]:
        """Runs that run, as MLflow or their tag says."""
        found = self._mlflow("experiments/search", {"max_results": 1000})
        ids = [experiment["experiment_id"] for experiment in found.get("experiments", [])]
        if not ids:
            return []
        found = {}
        for wanted in ("attributes.status = 'RUNNING'", f"tags.`{STATUS_TAG}` = 'running'"):
            body = {"experiment_ids": ids, "filter": wanted, "max_results": 1000}
            runs = self._mlflow("runs/search", body).get("runs", [])
            found |= {run["info"]["run_id"]: run for run in runs}
        return list(found.values())

    def _flow_run(self, run: dict[str, Any]) -> str:
        """The flow run behind a run; trials and runs of own code do not name it, but their training does."""
        tags = _tags(run)
        above = tags.get(OPENED_BY_TAG) or tags.get(PARENT_TAG)
        if FLOW_RUN_TAG not in tags and above:
            url = f"{self.settings.mlflow_url}/api/2.0/mlflow/runs/get?run_id={quote(above)}"
            try:
                tags = _tags(http.call("GET", url)["run"])
            except http.Refused as error:
                if error.status >= 500:
                    raise
                return ""  # the parent was deleted for good
        return _as_id(tags.get(FLOW_RUN_TAG, ""))

    def _states(self, flow_runs: set[str]) -> dict[str, str]:
        if not flow_runs:
            return {}
        body = {"flow_runs": {"id": {"any_": sorted(flow_runs)}}, "limit": 200}
        found = http.call("POST", f"{self.settings.prefect_api_url}/flow_runs/filter", body)
        return {run["id"]: run["state_type"] for run in found}

    def _mlflow(self, method: str, body: dict[str, Any]) -> Any:
        return http.call("POST", f"{self.settings.mlflow_url}/api/2.0/mlflow/{method}", body)


def _as_id(text: str) -> str:
    """The id as Prefect writes it; empty where it is none: tags are free text."""
    try:
        return str(UUID(text))
    except ValueError:
        return ""


def _tags(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
