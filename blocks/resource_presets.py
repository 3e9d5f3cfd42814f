"""What a training may ask for: presets of processors, memory and GPUs."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import BaseModel, Field


class Preset(BaseModel):
    """One choice; an empty number takes what there is."""

    cpus: int | None = Field(default=None, ge=1, le=4096, description="Processor threads.")
    memory_gib: float | None = Field(default=None, gt=0, le=65_536, description="Main memory in GiB.")
    gpus: int | None = Field(
        default=None, ge=0, le=1024, description="GPUs of all ranks together; each takes one."
    )


def usual_presets() -> dict[str, Preset]:
    """The presets that a new site has."""
    return {
        "auto": Preset(),
        "cpu-1": Preset(cpus=1, memory_gib=2, gpus=0),
        "cpu-2": Preset(cpus=2, memory_gib=4, gpus=0),
        "cpu-4": Preset(cpus=4, memory_gib=16, gpus=0),
        "cpu-8": Preset(cpus=8, memory_gib=32, gpus=0),
        "gpu-1": Preset(cpus=4, memory_gib=16, gpus=1),
    }


class ResourcePresets(Block):
    """Presets by name, from which a training chooses."""

    _block_type_name = "Resource Presets"
    _block_type_slug = "resource-presets"
    _description = "Processors, memory and GPUs that a training may choose by name."

    presets: dict[str, Preset] = Field(
        default_factory=lambda: usual_presets(), description="Each preset by the name that forms take."
    )
