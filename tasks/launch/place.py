"""Where trainings are started: a deployment with its flow, queue and image, and the flow runs made of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_type_hints
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun, State, StateDetails, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, ParameterTypeError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.runtime import flow_run as this_flow_run
from prefect.states import Scheduled
from pydantic import BaseModel, ValidationError

from tasks.containers.task import image_variables
from tasks.errors import InvalidSettings, NotFound
from tasks.launch.checks import FlowFacts
from tasks.launch.config import CopyConfig, DraftConfig, GroupConfig
from tasks.refs import USER_TAG, WORKSPACE_TAG
from tasks.trainings.status import DRAFT
from tasks.trainings.task import PAGE, TRAINING_FLOWS

TRAIN = "train/step"
"""The deployment that one training is run by."""


@dataclass(frozen=True)
class Place:
    """What is run, and where.

    Attributes:
        deployment: A deployment that trains.
        flow: Its flow.
        queue: The work queue that runs wait in.
        image: The job variables of a container image; empty for the work pool's own.
        here: Whether runs are processes of a worker such as this one. What is in a container, and on which
            host, is known to it alone.
    """

    deployment: DeploymentResponse
    flow: Flow[..., Any]
    queue: str
    image: dict[str, Any]
    here: bool

    @property
    def facts(self) -> FlowFacts:
        """The flow as checks know it."""
        kinds = get_type_hints(self.flow.fn)
        return FlowFacts(self.flow.name, {name: kinds[name] for name in self._takes}, self._settings)

    def given(self, **settings: BaseModel | None) -> dict[str, Any]:
        """What the form says besides changes, as parameters; None for what it leaves to the deployment.

        Raises:
            InvalidSettings: The flow does not take one of them.
        """
        unfit = [name for name, value in settings.items() if value is not None and name not in self._takes]
        if unfit:
            raise InvalidSettings(
                f"The flow {self.flow.name} takes no {' and no '.join(unfit)}",
                allowed=", ".join(self._takes),
                mend="leave it empty, and give the deployment's own parameters",
            )
        return {name: value.model_dump(mode="json") for name, value in settings.items() if value is not None}

    def start(
        self,
        client: SyncPrefectClient,
        parameters: dict[str, Any],
        *,
        name: str,
        key: str,
        tags: tuple[str, ...] = (),
        draft: bool = False,
        due: datetime | None = None,
    ) -> FlowRun:
        """Make a flow run.

        Args:
            client: Prefect.
            parameters: Checked parameters.
            name: Name of the flow run.
            key: With the same key there is only one.
            tags: Tags besides the user and the workspace, which are those of the flow run that asks.
            draft: Leave it until it is resumed.
            due: When it is to run; None for now.
        """
        carried = [tag for tag in this_flow_run.tags if tag.startswith((USER_TAG, WORKSPACE_TAG))]
        return client.create_flow_run_from_deployment(
            self.deployment.id,
            name=name,
            parameters=parameters,
            state=_draft() if draft else Scheduled(scheduled_time=due),
            tags=[*carried, *tags],
            work_queue_name=self.queue,
            job_variables=self.image,
            idempotency_key=key,
        )

    @property
    def _takes(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.flow.fn).parameters

    def _settings(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """See `FlowFacts.settings`."""
        usual = {name: one.default for name, one in self._takes.items() if one.default is not one.empty}
        try:
            return usual | self.flow.validate_parameters(parameters)
        except ParameterTypeError as error:
            if isinstance(error.__context__, ValidationError):  # which Prefect has made one text of
                raise error.__context__ from None
            raise TypeError(str(error)) from None


def find_place(
    client: SyncPrefectClient,
    which: str | UUID,
    config: GroupConfig | DraftConfig | CopyConfig,
    earlier: Mapping[str, Any] | None = None,
) -> Place:
    """Look up what is run and where.

    Args:
        client: Prefect.
        which: The deployment.
        config: Names the queue and the image.
        earlier: Job variables of the flow run that is copied.

    Raises:
        NotFound: There is no such deployment, queue, image or registry account.
        InvalidSettings: The deployment does not train, or its work pool does not take the image.
    """
    deployment, flow = _deployment(client, which)
    _require_queue(client, deployment, config.queue)
    image = image_variables(client, deployment, config.image, earlier)
    pool = deployment.work_pool_name
    here = pool is not None and client.read_work_pool(pool).type == "process"
    return Place(deployment, flow, config.queue, image, here)


def _deployment(client: SyncPrefectClient, which: str | UUID) -> tuple[DeploymentResponse, Flow[..., Any]]:
    """A deployment that trains, and its flow."""
    try:
        found = (
            client.read_deployment(which)
            if isinstance(which, UUID)
            else client.read_deployment_by_name(which)
        )
    except ObjectNotFound:
        trains = client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(TRAINING_FLOWS))), limit=PAGE
        )
        flows = {flow.id: flow.name for flow in client.read_flows(limit=PAGE)}
        known = ", ".join(sorted(f"{flows.get(one.flow_id, '')}/{one.name}" for one in trains))
        raise NotFound(f"There is no deployment {which}", allowed=known or "none is registered") from None
    flow_name = client.read_flow(found.flow_id).name
    if flow_name not in TRAINING_FLOWS:
        raise InvalidSettings(
            f"The deployment {flow_name}/{found.name} trains nothing",
            allowed=f"deployments of the flows {', '.join(TRAINING_FLOWS)}",
        )
    if not found.entrypoint:
        raise InvalidSettings(f"The deployment {which} does not say which flow it runs")
    return found, load_flow_from_entrypoint(found.entrypoint)


def _require_queue(client: SyncPrefectClient, deployment: DeploymentResponse, queue: str) -> None:
    """Prefect makes a queue that is not there, and nobody may be serving it."""
    if deployment.work_pool_name is None:
        return
    try:
        client.read_work_queue_by_name(queue, work_pool_name=deployment.work_pool_name)
    except ObjectNotFound:
        known = client.read_work_queues(work_pool_name=deployment.work_pool_name)
        raise NotFound(
            f"There is no work queue {queue}",
            where=f"work pool {deployment.work_pool_name}",
            allowed=", ".join(sorted(one.name for one in known)),
        ) from None


def _draft() -> State[Any]:
    """A state that no worker picks up, that never expires, and that Resume on the run's page ends."""
    return State(
        type=StateType.PAUSED,
        name=DRAFT,
        message="Not started yet.",
        state_details=StateDetails(pause_reschedule=True),
    )
