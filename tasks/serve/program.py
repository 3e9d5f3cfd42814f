"""How the supervisor runs an endpoint: its file in `supervisor.d/`."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.serve.record import EndpointPlace, EndpointRecord

REPOSITORY = Path(__file__).resolve().parents[2]

_PROGRAM = """; Written by the serve stage; changes are overwritten.
[program:{program}]
command={command}
directory={directory}
environment={environment}
priority=200
autostart=true
autorestart=true
startsecs=1
startretries=1000000
stopasgroup=true
killasgroup=true
stopwaitsecs=15
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


def program_text(place: EndpointPlace, record: EndpointRecord) -> str:
    """The endpoint's file in `supervisor.d/`.

    The record's digest is part of the environment: a changed setting changes the file, and so restarts
    the program.
    """
    command = [
        # A supervisor that is killed outright would else leave the endpoint behind, on the port that the
        # next one needs.
        *("setpriv", "--pdeathsig", "KILL", "--"),
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
    return _PROGRAM.format(
        program=place.program,
        command=_escaped(" ".join(_quoted(word) for word in command)),
        directory=_escaped(str(REPOSITORY)),
        environment=",".join(f'{name}="{_escaped(value)}"' for name, value in environment.items()),
        log=_escaped(str(place.log_file)),
    )


def _escaped(text: str) -> str:
    """Text as the supervisor's files take it: it expands %(…)s everywhere."""
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word
