"""MLflow runs that the code opens besides the training's own: nested below it, and closed with it.

MLflow's fluent calls continue the run of `MLFLOW_RUN_ID` once. Every later run gets the tags of
`MLFLOW_RUN_CONTEXT` (`mlflow.tracking.context.system_environment_context`), by which it is found again,
whichever run it is nested in and whichever experiment it is in.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.train.system_metrics import SYSTEM_PREFIX
from tasks.train.tags import OPENED_BY_TAG, OWNER_TAG, PARENT_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

_AT_ONCE = 500
_MOST_METRICS = 1_000
_OWN_EXPERIMENT = re.compile(rb"\bset_experiment\b|\bMLFLOW_EXPERIMENT_NAME\b")


def variables(client: MlflowClient, run: Run) -> dict[str, str]:
    """The variables by which the code's own MLflow calls find the run of its training."""
    tags = {PARENT_TAG: run.info.run_id, OPENED_BY_TAG: run.info.run_id}
    if owner := run.data.tags.get(OWNER_TAG):
        tags[OWNER_TAG] = owner
    return {
        "MLFLOW_TRACKING_URI": str(client.tracking_uri),
        "MLFLOW_RUN_ID": run.info.run_id,
        "MLFLOW_EXPERIMENT_ID": run.info.experiment_id,
        "MLFLOW_RUN_CONTEXT": json.dumps(tags),
    }


def fitting(given: Mapping[str, str], source: Path, own_variables: Mapping[str, str]) -> dict[str, str]:
    """Of the variables for MLflow those that the code can be given.

    MLflow refuses to continue a run of another experiment than the one that the code names. All runs of such
    code are nested ones.

    Args:
        given: What `variables` gave, or nothing.
        source: Folder with the code.
        own_variables: Those of the settings.
    """
    named = {name.encode() for name in own_variables}
    for file in source.rglob("*"):
        if file.suffix in (".py", ".ipynb") and file.is_file():
            named.update(_OWN_EXPERIMENT.findall(file.read_bytes()))
    left_out = {"MLFLOW_RUN_ID"} if {b"set_experiment", b"MLFLOW_EXPERIMENT_NAME"} & named else set()
    if b"MLFLOW_EXPERIMENT_NAME" in named:
        left_out.add("MLFLOW_EXPERIMENT_ID")  # MLflow takes both only where they name the same one
    return {name: value for name, value in given.items() if name not in left_out}


def opened_runs(client: MlflowClient, run_id: str, wanted: str = "") -> list[Run]:
    """The runs that the code of a training opened, in any experiment, oldest first.

    Args:
        client: MLflow.
        run_id: The training.
        wanted: What else is asked for, as MLflow's filters say it.
    """
    said = f"tags.`{OPENED_BY_TAG}` = '{run_id}'" + (f" AND {wanted}" if wanted else "")
    found: list[Run] = []
    more: Any = None  # a token, None for the first page, empty after the last
    while more != "":
        experiments = client.search_experiments(max_results=_AT_ONCE, page_token=more)
        ids, rest = [one.experiment_id for one in experiments], None
        while ids and rest != "":
            runs = client.search_runs(ids, said, max_results=_AT_ONCE, page_token=rest)
            found, rest = found + list(runs), runs.token or ""
        more = experiments.token or ""
    return sorted(found, key=lambda run: run.info.start_time or 0)


def opened_metrics(client: MlflowClient, run_id: str) -> dict[str, Metric]:
    """The last finite value of each metric that was logged to such runs; the newest run has the word."""
    found: dict[str, Metric] = {}
    for run in opened_runs(client, run_id):
        for metric in run.data._metric_objs:  # with their steps
            if metric.key.startswith(SYSTEM_PREFIX) or not math.isfinite(metric.value):
                continue
            if abs(metric.value) != sys.float_info.max:  # as which databases keep infinity
                found[metric.key] = metric
    return found


def take_metrics(client: MlflowClient, run_id: str) -> None:
    """Log those metrics to the training's own run where it has none of their name."""
    there = client.get_run(run_id).data.metrics
    new = [metric for name, metric in opened_metrics(client, run_id).items() if name not in there]
    if new:
        client.log_batch(run_id, metrics=new[: max(0, _MOST_METRICS - len(there))])


def close_opened(client: MlflowClient, run_id: str, status: str) -> None:
    """Close what the code left open: its processes are gone.

    Args:
        client: MLflow.
        run_id: The training.
        status: FINISHED, FAILED or KILLED, as the code ended.
    """
    for run in opened_runs(client, run_id, "attributes.status = 'RUNNING'"):
        client.set_terminated(run.info.run_id, status)
