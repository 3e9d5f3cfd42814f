"""Settings of the local stack: from the environment, or as the running stack was started."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, ValidationError, field_serializer, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tasks.errors import InvalidSettings

REPOSITORY = Path(__file__).resolve().parent.parent
WORK_POOL = "local"

# A Unix socket's path must fit into 108 bytes, and the supervisor adds its process number at first.
_LONGEST_SOCKET_PATH = 90


class Settings(BaseSettings):
    """What can be chosen about a local stack; each field is read from `TRAINYARD_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TRAINYARD_", frozen=True, extra="ignore")

    home: Path = Field(default=REPOSITORY / ".trainyard", description="Data folder of the stack.")
    prefect_port: int = Field(default=4200, ge=1024, le=65535, description="Port of Prefect's API and pages.")
    mlflow_port: int = Field(default=5000, ge=1024, le=65535, description="Port of MLflow's API and pages.")
    docs_port: int = Field(default=4300, ge=1024, le=65535, description="Port of Data Docs and other pages.")
    endpoint_port: int = Field(default=3000, ge=1024, le=65000, description="Lowest port of endpoints.")
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL server for Prefect and MLflow, postgresql://user:password@host:port; "
        "empty keeps both on SQLite.",
    )
    worker_limit: int = Field(default=2, ge=1, le=1000, description="Flow runs that the worker runs at once.")
    worker_query_s: float = Field(
        default=2.0, ge=0.5, le=60, description="Seconds between the worker's polls."
    )
    dask_workers: int = Field(
        default_factory=lambda: min(2, len(os.sched_getaffinity(0))),
        ge=1,
        le=1024,
        description="Dask worker processes of a step, at most one a processor.",
    )
    deployments_file: Path = Field(
        default=REPOSITORY / "deployments" / "prefect.yaml",
        description="Deployments to register; a file of your own replaces the list.",
    )
    source_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Local folders that files may be ingested from, with : between them; empty for the home "
        "and temporary folders, /data, /mnt, /media, /srv and the folder that the stack was started in.",
    )
    started_in: Path = Field(
        default_factory=lambda: _here(),
        description="Folder in which the stack of this home was first started.",
    )
    ready_timeout_s: float = Field(default=180, ge=5, description="Longest wait for a service to be ready.")

    @field_validator("home", "deployments_file")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        if "%" in str(path):
            raise ValueError("the path has a % in it, which the supervisor's configuration cannot hold")
        return Path(os.path.abspath(path.expanduser()))

    @field_validator("source_roots", mode="before")
    @classmethod
    def _folders(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        return tuple(
            os.path.abspath(os.path.expanduser(one)) for one in given.split(os.pathsep) if one.strip()
        )

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None or not url.get_secret_value():
            return None
        if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("give it as postgresql://user:password@host:port")
        return url

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        ports = [self.prefect_port, self.mlflow_port, self.docs_port]
        if len(set(ports)) < len(ports):
            raise ValueError("prefect_port, mlflow_port and docs_port must differ")
        return self

    @field_serializer("database_url", when_used="json")
    def _reveal(self, url: SecretStr | None) -> str | None:
        return url.get_secret_value() if url else None

    @property
    def prefect_url(self) -> str:
        return f"http://127.0.0.1:{self.prefect_port}"

    @property
    def prefect_api_url(self) -> str:
        return f"{self.prefect_url}/api"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.mlflow_port}"

    @property
    def docs_url(self) -> str:
        return f"http://127.0.0.1:{self.docs_port}"

    @property
    def run_folder(self) -> Path:
        return self.home / "run"

    @property
    def log_folder(self) -> Path:
        return self.home / "logs"

    @property
    def record_file(self) -> Path:
        """The settings that the stack of this home was last started with."""
        return self.run_folder / "stack.json"

    @property
    def wanted_file(self) -> Path:
        """Exists while the stack is to run: the keeper restores the supervisor only then."""
        return self.run_folder / "wanted"

    @property
    def socket(self) -> Path:
        """The supervisor's socket; under a long home it lies in a short private folder instead."""
        socket = self.run_folder / "supervisor.sock"
        if len(os.fsencode(socket)) <= _LONGEST_SOCKET_PATH:
            return socket
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"trainyard-{os.getuid()}-{digest}" / "supervisor.sock"


def from_environment() -> Settings:
    """Settings for starting a stack: the environment first, then what this home last ran with.

    Raises:
        InvalidSettings: A value is out of bounds or of the wrong kind; the variable is named.
    """
    return _load(_recorded(_home()), environment_wins=True)


def of_home() -> Settings:
    """Settings for talking to a stack: what this home last ran with, else the environment."""
    return _load(_recorded(_home()), environment_wins=False)


def differences(wanted: Settings, running: Settings) -> list[str]:
    """Name the variables whose values differ between two settings of one home."""
    first, second = wanted.model_dump(mode="json"), running.model_dump(mode="json")
    return [f"TRAINYARD_{name.upper()}" for name in first if first[name] != second[name]]


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed under this process
        return Path("/")


def _home() -> Path:
    return Path(
        os.path.abspath(Path(os.environ.get("TRAINYARD_HOME") or REPOSITORY / ".trainyard").expanduser())
    )


def _recorded(home: Path) -> dict[str, Any]:
    try:
        recorded = json.loads((home / "run" / "stack.json").read_text())
    except (OSError, ValueError):
        return {}
    settings = recorded.get("settings", {})
    # A folder that was moved or copied describes itself, not its original.
    return {**settings, "home": str(home)} if isinstance(settings, dict) else {}


def _load(recorded: dict[str, Any], *, environment_wins: bool) -> Settings:
    if environment_wins:
        recorded = {k: v for k, v in recorded.items() if not os.environ.get(f"TRAINYARD_{k.upper()}")}
    try:
        return Settings(**recorded)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        raise InvalidSettings(
            f"A setting of the stack cannot be used: {first['msg']}",
            where=f"TRAINYARD_{field.upper()}" if field else "the ports",
            allowed=Settings.model_fields[field].description or "" if field else "three different ports",
            mend="change or unset the variable and start again",
        ) from error
