"""A study in a process of its own, which goes on with what an earlier one has begun.

    python -m tests.helpers.study_driver ORDER

ORDER is JSON: tracking_uri, store, dataset, config, folder and outcome, a file that is written in the end.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from blocks.ray_cluster import RayCluster
from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef
from tasks.train.tags import FLOW_RUN_TAG
from tasks.tune.config import TuneConfig
from tasks.tune.recorded import unfinished_study
from tasks.tune.study import run_study


def main() -> None:
    order = json.loads(sys.argv[1])
    mlflow.set_tracking_uri(order["tracking_uri"])
    client, config = MlflowClient(order["tracking_uri"]), TuneConfig.model_validate(order["config"])
    folder = Path(order["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    flow_run = folder.name
    with RayCluster().session():
        study = run_study(
            DatasetRef.model_validate(order["dataset"]),
            config,
            DatasetStore(order["store"]),
            client,
            folder,
            tags={FLOW_RUN_TAG: flow_run},
            go_on=unfinished_study(client, config.experiment, flow_run),
        )
    Path(order["outcome"]).write_text(study.model_dump_json())


if __name__ == "__main__":
    main()
