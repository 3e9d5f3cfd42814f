"""The registration itself, by Prefect's client, from the declarations beside this file."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    GlobalConcurrencyLimitCreate,
    VariableCreate,
    VariableUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from blocks.container_image import ContainerImage
from blocks.dask_cluster import DaskCluster
from blocks.device_slots import DeviceSlots
from blocks.docs_site import DocsSite
from blocks.endpoint_host import EndpointHost
from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore, default_source_roots
from blocks.ray_cluster import RayCluster
from blocks.resource_presets import ResourcePresets
from blocks.workspace import Workspace
from deployments.bootstrap import VARIABLE
from infra.settings import Settings

HERE = Path(__file__).parent
SITE = "local"
_BLOCKS_VARIABLE = "trainyard_blocks"


def local_blocks(settings: Settings) -> list[Block]:
    """The blocks of the site `local`: everything on this host."""
    return [
        ObjectStore(
            url=str(settings.home / "store"),
            source_roots=[str(folder) for folder in settings.source_roots]
            or default_source_roots(settings.started_in),
        ),
        MlflowServer(tracking_uri=settings.mlflow_url),
        DaskCluster(n_workers=settings.dask_workers),
        RayCluster(num_cpus=settings.dask_workers),
        ResourcePresets(),
        DeviceSlots(),
        DocsSite(folder=str(settings.home / "docs"), url=settings.docs_url),
        EndpointHost(home=str(settings.home), first_port=settings.endpoint_port),
    ]


def declared_deployments(file: Path) -> list[dict[str, Any]]:
    """The entries of a prefect.yaml, YAML anchors resolved."""
    return list(yaml.safe_load(file.read_text())["deployments"])


def schedule(declared: dict[str, Any]) -> DeploymentScheduleCreate:
    """Read one entry under `schedules`, in the words of Prefect's own prefect.yaml."""
    timezone = declared.get("timezone", "UTC")
    when: CronSchedule | IntervalSchedule | RRuleSchedule
    if "cron" in declared:
        when = CronSchedule(cron=declared["cron"], timezone=timezone)
    elif "interval" in declared:
        when = IntervalSchedule(interval=timedelta(seconds=declared["interval"]), timezone=timezone)
    else:
        when = RRuleSchedule(rrule=declared["rrule"], timezone=timezone)
    return DeploymentScheduleCreate(
        schedule=when,
        active=declared.get("active", True),
        slug=declared.get("slug"),
        parameters=declared.get("parameters") or {},
    )


def concurrency(declared: int | dict[str, Any] | None) -> tuple[int | None, ConcurrencyOptions | None]:
    """Read `concurrency_limit`: a number, or a limit with what becomes of the runs above it."""
    if not isinstance(declared, dict):
        return declared, None
    strategy = ConcurrencyLimitStrategy(declared.get("collision_strategy", "ENQUEUE"))
    return declared["limit"], ConcurrencyOptions(collision_strategy=strategy)


async def register(settings: Settings, digest: str) -> list[str]:
    """Register everything declared.

    Returns:
        One sentence for each deployment whose flow could not be loaded; the digest is kept only
        when there is none.
    """
    began = time.monotonic()
    async with get_client() as client:
        await _pools(client)
        await _blocks(client, settings)
        await _limits(client)
        failures = await _deployments(client, settings)
        await _automations(client)
        if not failures:
            await _remember(client, VARIABLE, digest)
    print(f"Registered in {time.monotonic() - began:.1f} s.")
    return failures


async def _pools(client: PrefectClient) -> None:
    for pool in yaml.safe_load((HERE / "work-pools.yaml").read_text())["work_pools"]:
        template = json.loads((HERE / pool["base_job_template"]).read_text())
        try:
            await client.read_work_pool(pool["name"])
        except ObjectNotFound:
            await client.create_work_pool(
                WorkPoolCreate(
                    name=pool["name"],
                    type=pool["type"],
                    description=pool["description"],
                    base_job_template=template,
                )
            )
        else:
            await client.update_work_pool(
                pool["name"], WorkPoolUpdate(description=pool["description"], base_job_template=template)
            )
        known = {queue.name: queue for queue in await client.read_work_queues(pool["name"])}
        for priority, queue in enumerate(pool["queues"], start=1):
            if queue["name"] not in known:
                await client.create_work_queue(
                    name=queue["name"],
                    description=queue["description"],
                    priority=priority,
                    work_pool_name=pool["name"],
                )
            elif known[queue["name"]].priority != priority:
                # A limit that somebody has set is theirs; the order is ours.
                await client.update_work_queue(known[queue["name"]].id, priority=priority)


async def _blocks(client: PrefectClient, settings: Settings) -> None:
    """Write the blocks of this site; one that somebody has edited stays as they left it.

    Of container images and workspaces there are the forms alone: which there are is up to those who use them.
    """
    await ContainerImage.aregister_type_and_schema(client=client)
    await Workspace.aregister_type_and_schema(client=client)
    written: dict[str, str] = await _recall(client, _BLOCKS_VARIABLE) or {}
    for block in local_blocks(settings):
        kind = type(block)
        await kind.aregister_type_and_schema(client=client)
        slug = kind.get_block_type_slug()
        declared = _digest(
            block.model_dump(mode="json", exclude={"block_type_slug"}, context={"include_secrets": True})
        )
        try:
            document = await client.read_block_document_by_name(SITE, slug, include_secrets=True)
        except ObjectNotFound:
            stored = None
        else:
            stored = _digest(document.data)
        if stored is None or (stored != declared and stored == written.get(slug)):
            await block.asave(SITE, overwrite=True, client=client)
            stored = declared
        if stored == declared:
            written[slug] = declared
    await _remember(client, _BLOCKS_VARIABLE, written)


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


async def _limits(client: PrefectClient) -> None:
    declared = yaml.safe_load((HERE / "work-pools.yaml").read_text()).get("concurrency_limits") or []
    known = {limit.name for limit in await client.read_global_concurrency_limits(limit=200)}
    for limit in declared:
        if limit["name"] not in known:
            await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(**limit))


async def _deployments(client: PrefectClient, settings: Settings) -> list[str]:
    """Create or update all deployments, one after another: SQLite has one writer at a time."""
    failures: list[str] = []
    loaded: list[tuple[dict[str, Any], Flow[Any, Any]]] = []
    for entry in declared_deployments(settings.deployments_file):
        try:
            loaded.append((entry, load_flow_from_entrypoint(entry["entrypoint"])))
        except Exception as error:  # whatever a module can raise on import is the message
            failures.append(
                f"Deployment {entry['name']}: the flow {entry['entrypoint']} cannot be loaded: "
                f"{type(error).__name__}: {error}"
            )

    async def deploy(entry: dict[str, Any], flow: Flow[Any, Any]) -> None:
        limit, options = concurrency(entry.get("concurrency_limit"))
        pool = entry["work_pool"]
        await client.create_deployment(
            flow_id=await client.create_flow_from_name(flow.name),
            name=entry["name"],
            entrypoint=entry["entrypoint"],
            parameters=entry.get("parameters") or {},
            parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
            enforce_parameter_schema=True,
            description=entry.get("description") or flow.description,
            tags=entry.get("tags") or [],
            schedules=[schedule(declared) for declared in entry.get("schedules") or []],
            concurrency_limit=limit,
            concurrency_options=options,
            work_pool_name=pool["name"],
            work_queue_name=pool["work_queue_name"],
            job_variables=pool.get("job_variables") or {},
            pull_steps=[],  # the code is installed where the worker runs
        )

    for entry, flow in loaded:
        await deploy(entry, flow)
    return failures


async def _automations(client: PrefectClient) -> None:
    for entry in yaml.safe_load((HERE / "automations.yaml").read_text())["automations"]:
        automation = AutomationCore.model_validate(entry)
        known = await client.read_automations_by_name(automation.name)
        if not known:
            await client.create_automation(automation)
        else:
            # Whether it is switched on is up to whoever runs this server.
            wanted = automation.model_copy(update={"enabled": known[0].enabled})
            await client.update_automation(known[0].id, wanted)


async def _remember(client: PrefectClient, name: str, value: Any) -> None:
    if await client.read_variable_by_name(name) is None:
        await client.create_variable(VariableCreate(name=name, value=value, tags=["trainyard"]))
    else:
        await client.update_variable(VariableUpdate(name=name, value=value))


async def _recall(client: PrefectClient, name: str) -> Any:
    variable = await client.read_variable_by_name(name)
    return None if variable is None else variable.value
