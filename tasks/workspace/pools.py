"""What there is: slots of workspaces and of a site's devices, and endpoints that are switched on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import cast

import httpx
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument

from blocks.device_slots import DeviceSlots
from blocks.endpoint_host import EndpointHost
from blocks.workspace import Workspace
from tasks.cluster import dask_cluster, faults
from tasks.errors import InvalidSettings, TrainyardError
from tasks.train.resources import host
from tasks.workspace.slots import Endpoint, Quota
from tasks.workspace.stored import block_name, load_workspace

WORKSPACE = "workspace "
_SITE = re.compile(r"site (?P<site>.*) \((?P<kind>GPUs|processors)\)")


def quotas(pools: Iterable[str]) -> dict[str, Quota]:
    """What there is in pools."""
    found: dict[str, Quota] = {}
    for pool in pools:
        with suppress(TrainyardError):  # what is gone, or holds nonsense, limits nothing
            found[pool] = _quota(pool)
    return found


def _quota(pool: str) -> Quota:
    if pool.startswith(WORKSPACE):
        workspace = load_workspace(pool.removeprefix(WORKSPACE))
        return Quota(workspace.training_slots, workspace.serving_slots)
    named = _SITE.fullmatch(pool)
    return Quota(device_slots(named["site"], named["kind"] == "GPUs") if named else None)


def endpoints(client: SyncPrefectClient) -> list[Endpoint]:
    """Endpoints of all sites that are switched on, with the workspace that each was started in."""
    from tasks.serve.record import list_records

    homes = sorted({str(one.data.get("home", "")) for one in _documents(client, EndpointHost)})
    return [
        Endpoint(one.name, one.workers, (WORKSPACE + one.workspace,))
        for home in homes
        for one in list_records(Path(os.path.expanduser(home)))
        if one.enabled and one.workspace
    ]


def all_pools(client: SyncPrefectClient, site: str = "local") -> list[str]:
    """The pools of a site's devices and of every workspace, whether somebody uses them or not."""
    names = [one.name for one in _documents(client, Workspace) if one.name]
    devices = [False, True] if device_slots(site, on_gpus=True) else [False]
    return [
        *(device_pool(site, on_gpus) for on_gpus in devices),
        *(WORKSPACE + name.removeprefix(block_name("")) for name in names),
    ]


def _documents(client: SyncPrefectClient, kind: type[Block]) -> list[BlockDocument]:
    """All blocks of a type."""
    try:
        return client.read_block_documents_by_type(kind.get_block_type_slug(), include_secrets=False)
    except httpx.HTTPStatusError as error:  # the type is not registered: nobody ever made one
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return []


def device_pool(site: str, on_gpus: bool) -> str:
    """Name of the pool of a site's devices."""
    return f"site {site} ({'GPUs' if on_gpus else 'processors'})"


def device_slots(site: str, on_gpus: bool) -> int | None:
    """GPUs or processor slots of a site; None where ranks run elsewhere, and nobody said how many.

    Raises:
        InvalidSettings: The block Device Slots cannot be.
    """
    block = device_block(site)
    stated = block.gpus if on_gpus else block.cpus
    if stated is not None:
        return stated
    with suppress(ValueError, TrainyardError):  # without the block, or with one that is refused later
        if dask_cluster(site).address:
            return 0 if on_gpus else None
    there_is = host()
    return (there_is.gpus or 0) if on_gpus else there_is.cpus


def device_block(site: str) -> DeviceSlots:
    """How many devices somebody said that a site has.

    Raises:
        InvalidSettings: It was changed by hand to something that cannot be.
    """
    try:
        return cast(DeviceSlots, DeviceSlots.load(site))
    except ValueError:  # a site without the block has what its hosts have
        return DeviceSlots()
    except RuntimeError as error:
        raise InvalidSettings(
            f"the block cannot be used: {faults(error)}",
            where=f"the block Device Slots, '{site}'",
            mend="correct it in the Prefect pages, under Blocks",
        ) from error
