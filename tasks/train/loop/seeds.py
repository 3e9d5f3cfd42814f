"""Random numbers that follow from (seed, epoch, step, rank), so that none of them has to be kept.

A training that goes on in the middle of an epoch draws what an unbroken one would have drawn there.
"""

from __future__ import annotations

import torch


def mixed(*numbers: int) -> int:
    """One 63-bit seed of several numbers, different for different ones."""
    result = 0
    for number in numbers:
        result = (result * 6364136223846793005 + number + 1442695040888963407) % 2**63
    # Neighbouring steps give neighbouring products; a last scramble (splitmix64) sets them apart.
    result = ((result ^ (result >> 30)) * 0xBF58476D1CE4E5B9) % 2**63
    result = ((result ^ (result >> 27)) * 0x94D049BB133111EB) % 2**63
    return result ^ (result >> 31)


def seed_step(device: torch.device, *numbers: int) -> None:
    """Start the global random numbers (dropout) of one step, on the processor and on the device."""
    torch.default_generator.manual_seed(mixed(*numbers))
    if device.type == "cuda":
        torch.cuda.manual_seed(mixed(*numbers))
