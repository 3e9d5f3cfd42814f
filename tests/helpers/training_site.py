"""What the flow tests of groups, lists, deletions and templates share: a site, and trainings at it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from prefect import tags
from prefect.artifacts import Artifact
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from flows import trainings
from flows.train import train_model
from tasks.data.config import DatasetChoice
from tasks.refs import RunRef
from tasks.train.config import TrainConfig
from tasks.trainings.config import ListConfig

SITE = "trainings-suite"
IRIS = DatasetChoice(name="iris")
QUICK = TrainConfig(algorithm="logistic_regression")


def deploy(
    client: SyncPrefectClient,
    entrypoint: str,
    site: str,
    *,
    name: str = "step",
    pool: str = "local",
    queue: str = "default",
) -> UUID:
    """Register a flow as `trainyard bootstrap` does."""
    found = load_flow_from_entrypoint(entrypoint)
    return client.create_deployment(
        flow_id=client.create_flow_from_name(found.name),
        name=name,
        entrypoint=entrypoint,
        parameters={"site": site},
        parameter_openapi_schema=parameter_schema(found).model_dump_for_openapi(),
        enforce_parameter_schema=True,
        work_pool_name=pool,
        work_queue_name=queue,
    )


def forget(client: SyncPrefectClient, deployments: Iterable[UUID]) -> None:
    """Delete deployments and all their runs, which other tests would find."""
    ids = list(deployments)
    runs = client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=ids)))
    for run in runs:
        client.delete_flow_run(run.id)
    for one in ids:
        client.delete_deployment(one)


def group_of(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    """Flow runs that bear a group's name, of all users."""
    wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"group:{name}"]))
    return client.read_flow_runs(flow_run_filter=wanted)


def end(client: SyncPrefectClient, run_id: str, state: StateType) -> None:
    client.set_flow_run_state(UUID(run_id), State(type=state), force=True)


def trained(seed: int, experiment: str = "default") -> RunRef:
    """One training as a flow run of ada's."""
    with tags("user:ada"):
        return train_model(IRIS, QUICK.model_copy(update={"seed": seed, "experiment": experiment}), site=SITE)


def row_of(run_id: str, **listing: Any) -> dict[str, str]:
    """The line of a training in the list."""
    return {row["id"]: row for row in trainings.list_trainings(ListConfig(**listing), SITE)}[run_id]


def page(key: str) -> str:
    """The newest artifact of that key."""
    found = Artifact.get(key)
    assert found is not None
    return str(found.data)
