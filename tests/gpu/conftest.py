"""The suite for a host with NVIDIA GPUs: `pytest -m gpu tests/gpu`; elsewhere it says why it is skipped."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def gpus() -> int:
    """GPUs of this host; without one there is nothing to test."""
    if not torch.cuda.is_available():
        built = "PyTorch finds no GPU here" if torch.version.cuda else "this PyTorch is built for processors"
        pytest.skip(built)
    return torch.cuda.device_count()
