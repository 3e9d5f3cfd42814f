"""How the supervisor runs an endpoint: its file in `supervisor.d/`."""

from __future__ import annotations

import sys

from tasks import programs
from tasks.programs import REPOSITORY
from tasks.serve.record import EndpointPlace, EndpointRecord


def program_text(place: EndpointPlace, record: EndpointRecord) -> str:
    """The endpoint's file in `supervisor.d/`.

    The record's digest is part of the environment: a changed setting changes the file, and so restarts
    the program.
    """
    command = [
        *(sys.executable, "-m", "bentoml", "serve", "tasks.serve.service:Endpoint"),
        *("--host", record.host, "--port", str(record.port), "--timeout-graceful-shutdown", "10"),
    ]
    environment = {
        "TRAINYARD_HOME": str(place.home),
        "TRAINYARD_ENDPOINT": record.name,
        "TRAINYARD_ENDPOINT_SETTINGS": record.settings_digest,
        "TRAINYARD_ENDPOINT_WORKERS": str(record.workers),
        "TRAINYARD_ENDPOINT_TIMEOUT_S": f"{record.request_timeout_s:g}",
        "MLFLOW_TRACKING_URI": record.tracking_uri,
        # Workers' counters lie in files below this folder, so each endpoint needs one of its own.
        "BENTOML_HOME": str(place.folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "1",
    }
    return programs.program_text("serve", place.program, command, environment, place.log_file)
