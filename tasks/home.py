"""The data folder that the processes of one host share: checkpoints, fetched models, samples, locks."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder that `TRAINYARD_HOME` names; `.trainyard` in the working folder where it is not set."""
    return Path(os.environ.get("TRAINYARD_HOME") or ".trainyard").resolve()
