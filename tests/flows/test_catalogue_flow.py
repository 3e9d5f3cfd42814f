"""The catalogue of algorithms is a table on the page of its flow run."""

from __future__ import annotations

import json
from typing import Any, cast

from prefect import tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterTags,
)

from flows.catalogue import list_algorithms
from tasks.refs import Problem
from tasks.train import algorithms
from tasks.train.config_catalogue import CatalogueConfig


def test_the_table_has_the_algorithms_of_the_problem() -> None:
    with tags("catalogue-suite"):
        lines = list_algorithms(CatalogueConfig(problem=Problem.TABLE_REGRESSION))
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=["catalogue-suite"]))
        )
        (artifact,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        )
    assert artifact.key == "algorithms"
    assert json.loads(cast(Any, artifact).data) == lines
    assert {line["algorithm"] for line in lines} == set(algorithms.names(Problem.TABLE_REGRESSION))
    assert all("hyperparameters and defaults" in line for line in lines)
