"""What a training may use of the host that it runs on, and whether the host has it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from tasks.errors import InvalidSettings, Unavailable


@dataclass(frozen=True)
class Resources:
    """What a preset grants; None takes what there is.

    Attributes:
        cpus: Processor threads.
        memory_gib: Main memory.
        gpus: GPUs of all ranks together; each uses one.
    """

    cpus: int | None = None
    memory_gib: float | None = None
    gpus: int | None = None

    def __str__(self) -> str:
        parts = [
            "" if self.cpus is None else f"{self.cpus} processor{'s' if self.cpus > 1 else ''}",
            "" if self.memory_gib is None else f"{self.memory_gib:g} GiB",
            "" if not self.gpus else f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}",
        ]
        return ", ".join(filter(None, parts)) or "what there is"


ALL_THERE_IS = Resources()


def host() -> Resources:
    """What this host has: processors that this process may run on, memory, visible GPUs."""
    from tasks.data.memory import installed_memory_bytes

    return Resources(
        cpus=len(os.sched_getaffinity(0)),
        memory_gib=installed_memory_bytes() / 2**30,
        gpus=_gpus(),
    )


def choose(name: str, presets: Mapping[str, Resources], there_is: Resources | None = None) -> Resources:
    """A preset by its name, if the host has what it grants.

    Args:
        name: The preset.
        presets: All of the site's.
        there_is: What the host has; looked up where it is not given.

    Raises:
        InvalidSettings: There is no such preset.
        Unavailable: The host has less, in numbers.
    """
    if name not in presets:
        near = get_close_matches(name, presets, n=1)
        raise InvalidSettings(
            f"there is no preset '{name}'",
            where="resources",
            allowed="; ".join(f"{key}: {value}" for key, value in presets.items()),
            mend=f"did you mean '{near[0]}'?" if near else "take one of these, or edit the block of presets",
        )
    wanted, found = presets[name], there_is or host()
    short = [
        f"{want:g} {unit} of {have:.3g}"
        for want, have, unit in (
            (wanted.cpus, found.cpus, "processors"),
            (wanted.memory_gib, found.memory_gib, "GiB of memory"),
            (wanted.gpus, found.gpus, "GPUs"),
        )
        if want is not None and have is not None and want > have
    ]
    if short:
        fits = [key for key, value in presets.items() if _fits(value, found)]
        raise Unavailable(
            f"the preset '{name}' asks for more than this host has: {', '.join(short)}",
            where="resources",
            allowed=", ".join(fits),
            mend="take a smaller preset, or run on a work pool with larger hosts",
        )
    return wanted


def _fits(wanted: Resources, found: Resources) -> bool:
    pairs = (
        (wanted.cpus, found.cpus),
        (wanted.memory_gib, found.memory_gib),
        (wanted.gpus, found.gpus),
    )
    return all(want is None or have is None or want <= have for want, have in pairs)


def _gpus() -> int:
    """Visible CUDA devices, without PyTorch where there is no driver: its import takes seconds."""
    if not os.path.exists("/proc/driver/nvidia"):
        return 0
    import torch

    return torch.cuda.device_count()
