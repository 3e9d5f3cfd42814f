"""The services of a stack: what each runs, with which environment."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.settings import REPOSITORY, WORK_POOL, Settings
from infra.stack import database, home
from infra.stack.processes import SERVICE, STACK_ID

WORKER_NAME = "trainyard"
# What the user has set up for other Prefect, MLflow or BentoML servers must not reach ours.
_FOREIGN = ("PREFECT_", "PREFECT__", "MLFLOW_", "_MLFLOW_", "BENTOML_")


@dataclass(frozen=True)
class Service:
    """One program that the supervisor keeps running.

    Attributes:
        name: Its name in the supervisor, in `status` and of its log file.
        url: Where it answers, or None.
        port: The port that it listens on, or None.
        variable: The setting that moves the port.
        command: What replaces the start process once everything it waits for is there.
        stop_s: How long it may take to stop before it is killed.
    """

    name: str
    command: tuple[str, ...]
    url: str | None = None
    port: int | None = None
    variable: str = ""
    stop_s: int = 10


def declared(settings: Settings) -> list[Service]:
    """The services of a stack, in the order in which a reader meets them."""
    python, local = sys.executable, ("--host", "127.0.0.1", "--port")
    return [
        Service(
            name="prefect",
            url=settings.prefect_url,
            port=settings.prefect_port,
            variable="TRAINYARD_PREFECT_PORT",
            command=(python, "-m", "prefect", "server", "start", *local, str(settings.prefect_port)),
        ),
        Service(
            name="mlflow",
            url=settings.mlflow_url,
            port=settings.mlflow_port,
            variable="TRAINYARD_MLFLOW_PORT",
            command=(
                *(python, "-m", "mlflow", "server", *local, str(settings.mlflow_port), "--workers", "1"),
                *(
                    "--serve-artifacts",
                    "--artifacts-destination",
                    str(settings.home / "mlflow" / "artifacts"),
                ),
            ),
        ),
        Service(
            name="docs",
            url=settings.docs_url,
            port=settings.docs_port,
            variable="TRAINYARD_DOCS_PORT",
            command=(
                *(python, "-m", "infra.stack.pages"),
                *(str(settings.home / "docs"), str(settings.docs_port)),
            ),
        ),
        Service(
            name="worker",
            command=(
                *(python, "-m", "prefect", "worker", "start", "--pool", WORK_POOL, "--type", "process"),
                *("--name", WORKER_NAME, "--limit", str(settings.worker_limit)),
                *("--install-policy", "never", "--no-create-pool-if-not-found"),
            ),
            stop_s=20,
        ),
        Service(name="caretaker", command=(python, "-m", "infra.stack.caretaker")),
        Service(name="queue", command=(python, "-m", "tasks.workspace.board")),
    ]


def _own_environment(settings: Settings, name: str) -> dict[str, str]:
    """What one service gets besides what all share."""
    match name:
        case "prefect":
            return {
                "PREFECT_API_DATABASE_CONNECTION_URL": database.prefect_url(settings),
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                # Or any page that the user visits could read and start runs.
                "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": ",".join(
                    f"http://{host}:{settings.prefect_port}" for host in ("127.0.0.1", "localhost")
                ),
                "PREFECT_SERVER_ENCRYPTION_KEY": home.prefect_key(settings),
                "PREFECT_UI_API_URL": settings.prefect_api_url,
                "PREFECT_SERVER_DATABASE_TIMEOUT": "30",
            }
        case "mlflow":
            return {
                "MLFLOW_BACKEND_STORE_URI": database.mlflow_url(settings),
                "MLFLOW_FLASK_SERVER_SECRET_KEY": home.mlflow_key(settings),
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # would be 8 processes of 240 MB each
            }
        case "worker":
            return {
                "PREFECT_WORKER_QUERY_SECONDS": f"{settings.worker_query_s:g}",
                "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
                "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            }
        case _:
            return {}


def client_environment(settings: Settings) -> dict[str, str]:
    """What a process needs to talk to the stack: flow runs, notebooks and tools."""
    return {
        "TRAINYARD_HOME": str(settings.home),
        "PREFECT_API_URL": settings.prefect_api_url,
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_PROFILES_PATH": str(settings.home / "prefect" / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "DO_NOT_TRACK": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(settings.home / "work" / "bentoml"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
    }


def environment(settings: Settings, service: Service | None = None) -> dict[str, str]:
    """The whole environment of a service, or of the supervisor, where none is given."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    path = [str(Path(sys.executable).parent), *inherited.get("PATH", os.defpath).split(os.pathsep)]
    no_proxy = ",".join(filter(None, [inherited.get("NO_PROXY", ""), "127.0.0.1,localhost"]))
    return {
        **inherited,
        **client_environment(settings),
        "PATH": os.pathsep.join(dict.fromkeys(path)),
        "PYTHONPATH": os.pathsep.join(
            filter(None, dict.fromkeys([str(REPOSITORY), *inherited.get("PYTHONPATH", "").split(os.pathsep)]))
        ),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        STACK_ID: home.stack_id(settings),
        **({SERVICE: service.name, **_own_environment(settings, service.name)} if service else {}),
    }
