"""What the settings of a training name at a site: looked up before a run exists, and again when it starts."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

from prefect.context import TaskRunContext

from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from blocks.resource_presets import ResourcePresets, usual_presets
from tasks.cluster import dask_cluster
from tasks.data.task import closed_folders, open_store
from tasks.errors import InvalidSettings, TrainyardError, noted
from tasks.home import home
from tasks.train.config import TrainConfig
from tasks.train.ranks.site import require_ranks
from tasks.train.resources import ALL_THERE_IS, Resources, choose, host

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tasks.train.own_code.config import OwnCode
    from tasks.train.own_code.source import SourceAccess
    from tasks.train.start import Start


def site_faults(config: TrainConfig, site: str, *, here: bool = True) -> list[TrainyardError]:
    """All that is wrong with what settings name at a site, to be told before there is a run.

    The main dataset, and what the algorithm cannot take, are the caller's.

    Args:
        config: The settings.
        site: Which set of blocks to use.
        here: Whether the training is to run on a host such as this one; of another, neither the files nor
            the size are known.
    """
    _, _, faults = looked_up(config, site, here)
    own = config.own_code
    if own is not None:
        from tasks.train.own_code.own_code import check_script
        from tasks.train.own_code.source import named_datasets

        with noted(faults):
            named_datasets(own, open_store(site))
        if here or not _is_path(own.source):
            with noted(faults):
                check_script(own, code_access(own, site))
    return faults


def looked_up(
    config: TrainConfig, site: str, here: bool = True
) -> tuple[Resources, Start | None, list[TrainyardError]]:
    """What may be used and where to start from, with all that is wrong with names in the settings."""
    from tasks.data.delivery import require_new

    resources, start = ALL_THERE_IS, None
    faults: list[TrainyardError] = []
    with noted(faults):
        resources = granted(config, site, here)
    if here:
        with noted(faults):
            require_ranks(config, site, resources, host())
    if here or not _is_path(config.start_from):
        with noted(faults):
            start = start_of(config, site)
    if here:
        with noted(faults):
            checkpoint_folder(config, site)
    if config.output and (here or not _is_path(config.output)):
        with noted(faults):
            require_new(config.output, *output_place(config, site))
    return resources, start, faults


def _is_path(address: str) -> bool:
    """Whether an address is of a file on the host that trains."""
    return "/" in address and not address.startswith(("s3://", "models:/"))


def contents_of(config: TrainConfig, site: str, start: Start | None) -> dict[str, str]:
    """Digests of what settings only name: the weights to start from, own code and its datasets."""
    found = {"start weights": start.digest} if start else {}
    if config.own_code is not None:
        context = TaskRunContext.get()
        found |= _identified(
            config.own_code.model_dump_json(), site, context.task_run.id if context else uuid4()
        )
    return found


def mlflow_client(site: str) -> MlflowClient:
    return cast(MlflowServer, MlflowServer.load(site)).client()


def granted(config: TrainConfig, site: str, here: bool = True) -> Resources:
    """What the preset of a training grants, if this host has it.

    Of another host that is not known; those of a running scheduler are asked by `require_ranks`.

    Raises:
        InvalidSettings: There is no such preset.
        Unavailable: This host has less.
    """
    try:
        presets = cast(ResourcePresets, ResourcePresets.load(site)).presets
    except ValueError:  # a site without presets of its own has the usual ones
        presets = usual_presets()
    grants = {name: Resources(**preset.model_dump()) for name, preset in presets.items()}
    elsewhere = not here or (config.num_ranks > 1 and dask_cluster(site).address)
    return choose(config.resources, grants, ALL_THERE_IS if elsewhere else None)


def start_of(config: TrainConfig, site: str) -> Start | None:
    """The weights to start from, looked up once a task run: an alias may move from its key to its fit."""
    if not config.start_from:
        return None
    context = TaskRunContext.get()
    asking = context.task_run.id if context else uuid4()
    return _start_asked_by(config.start_from, site, config.own_code is not None, asking)


@lru_cache(maxsize=8)
def _start_asked_by(start_from: str, site: str, for_own_code: bool, asking: UUID) -> Start:
    from tasks.train.start import find_start

    block = cast(ObjectStore, ObjectStore.load(site))
    models_folder = home() / "work" / "models"
    return find_start(
        start_from,
        mlflow_client(site),
        models_folder,
        block.source_roots,
        closed_folders(block),
        for_own_code=for_own_code,
        hides=open_store(site).hides,
    )


@lru_cache(maxsize=8)
def _identified(own_code: str, site: str, asking: UUID) -> dict[str, str]:
    """What own code is, looked up once a task run: the result is kept by it, so this is what must run.

    Args:
        own_code: The settings as JSON, which can be a key.
        site: Where datasets are.
        asking: The task run.
    """
    from tasks.train.own_code.config import OwnCode
    from tasks.train.own_code.source import identify

    own = OwnCode.model_validate_json(own_code)
    return identify(own, open_store(site), code_access(own, site))


def code_access(own: OwnCode, site: str) -> SourceAccess:
    from tasks.train.own_code.source import SourceAccess

    block = cast(ObjectStore, ObjectStore.load(site))
    options = block.storage_options if own.source.startswith("s3://") else {}
    return SourceAccess(options, block.source_roots, closed_folders(block))


def output_place(config: TrainConfig, site: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """Options of the object store, folders that may be written to, and folders that may not."""
    block = cast(ObjectStore, ObjectStore.load(site))
    options = block.storage_options if config.output.startswith("s3://") else {}
    return options, block.source_roots, closed_folders(block)


def checkpoint_folder(config: TrainConfig, site: str) -> Path:
    """Where the work folder of a training is.

    Raises:
        NotAllowed, NotFound: It is where nothing may be read or written.
        InvalidSettings: It is no folder, or may not be written to.
    """
    if not config.checkpoint_folder:
        return home() / "work" / "train"
    from tasks.data.sources.addresses import local_path, require_allowed

    block = cast(ObjectStore, ObjectStore.load(site))
    path = Path(os.path.realpath(local_path(config.checkpoint_folder)))
    require_allowed(str(path), config.checkpoint_folder, block.source_roots, closed_folders(block))
    there = next(place for place in (path, *path.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InvalidSettings(
            f"checkpoints cannot be written to {config.checkpoint_folder}",
            where=f"checkpoint_folder, {there}",
            allowed="a folder that may be written to; it is made where it is not there",
            mend="choose another folder, or leave it empty",
        )
    return path
