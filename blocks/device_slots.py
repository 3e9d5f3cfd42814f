"""How many devices of a site may be used at once."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field


class DeviceSlots(Block):
    """The devices that trainings of a site share; a run beyond them waits in the queue."""

    _block_type_name = "Device Slots"
    _block_type_slug = "device-slots"
    _description = "Devices of a site that trainings may use at once; runs beyond them wait."

    gpus: int | None = Field(
        default=None, ge=0, le=100_000, description="GPUs; empty takes those of the worker's host."
    )
    cpus: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Processor slots, one a rank or a trial at a time; empty takes one a processor of the "
        "worker's host.",
    )
