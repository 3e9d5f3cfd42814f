"""What is written down about an endpoint: its record, its token, its folders below the data folder.

<home>/endpoints/<name>/endpoint.json      the record: address, model, alias, limits, token's hash
<home>/endpoints/<name>/versions/<n>/      model versions kept on disk, the served one among them
<home>/secrets/endpoint-<name>.token       the token in the clear, readable by its owner alone
<home>/supervisor.d/endpoint-<name>.conf   how the supervisor runs it
<home>/logs/endpoint-<name>.log            its log: JSON, one line an event or request
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import Damaged, InvalidSettings, NotFound
from tasks.serve.config import NAME_PATTERN


class EndpointRecord(BaseModel):
    """One endpoint as its process, the clients' samples and `status` need to know it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    model: str = Field(description="Registered model that it serves.")
    alias: str = Field(description="Alias of that model that it follows.")
    host: str
    port: int
    url: str = Field(description="Where a client posts.")
    token_file: str
    token_sha256: str
    tracking_uri: str = Field(description="The MLflow server that holds the registry.")
    workers: int = 1
    request_timeout_s: float = 20.0
    max_queue: int = 256
    max_instances: int = 512
    max_body_mib: int = 32
    workspace: str = Field(default="", description="Workspace whose serving slots it uses; empty for none.")
    created_at: str
    enabled: bool = Field(default=True, description="Whether it is switched on.")
    curl: str = Field(default="", description="A command that asks it, ready to be pasted in a shell.")

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def settings_digest(self) -> str:
        """Recognises the settings that a process was started with."""
        return hash_token(self.model_dump_json(exclude={"enabled", "curl", "workspace"}))[:16]

    @property
    def status_url(self) -> str:
        return f"{self.base_url}/v1/models/{self.model}"


class EndpointPlace:
    """The files of one endpoint.

    Args:
        home: Data folder of the stack.
        name: The endpoint's name.

    Raises:
        InvalidSettings: The name is not one that can be a folder and a process name.
    """

    def __init__(self, home: Path | str, name: str) -> None:
        if not re.fullmatch(NAME_PATTERN, name):
            raise InvalidSettings(
                f"{name!r} is not a name for an endpoint",
                where="endpoint",
                allowed="1 to 63 small letters, digits and dashes, no dash in front",
                mend="choose another name",
            )
        self.home = Path(home).expanduser().resolve()
        self.name = name
        self.program = f"endpoint-{name}"
        self.folder = self.home / "endpoints" / name
        self.record_file = self.folder / "endpoint.json"
        self.versions = self.folder / "versions"
        self.token_file = self.home / "secrets" / f"{self.program}.token"
        self.conf_file = self.home / "supervisor.d" / f"{self.program}.conf"
        self.log_file = self.home / "logs" / f"{self.program}.log"
        self.lock_file = self.home / "run" / f"{self.program}.lock"

    def read(self) -> EndpointRecord:
        """The endpoint's record.

        Raises:
            NotFound: There is no such endpoint.
            Damaged: The record cannot be read.
        """
        try:
            return EndpointRecord.model_validate_json(self.record_file.read_bytes())
        except FileNotFoundError:
            known = ", ".join(record.name for record in list_records(self.home)) or "none yet"
            raise NotFound(
                f"there is no endpoint {self.name!r}",
                where=str(self.folder),
                allowed=f"the endpoints {known}",
                mend="start it with the serve flow",
            ) from None
        except ValidationError as error:
            raise Damaged(
                f"the endpoint's record cannot be read: {error.errors()[0]['msg']}",
                where=str(self.record_file),
                mend="delete the endpoint and serve the model again",
            ) from error

    def write(self, record: EndpointRecord) -> None:
        write_atomically(self.record_file, record.model_dump_json(indent=2).encode() + b"\n")

    def token(self) -> str:
        """The token in the clear.

        Raises:
            NotFound: The token file is gone.
        """
        try:
            return self.token_file.read_text().strip()
        except FileNotFoundError:
            raise NotFound(
                "the token file is missing",
                where=str(self.token_file),
                mend="delete the endpoint and serve the model again",
            ) from None

    def ensure_token(self) -> str:
        """The token, made on first use; the file is 0600 in a folder of 0700."""
        if self.token_file.exists():
            token = self.token_file.read_text().strip()
            if token:
                return token
        self.token_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        token = secrets.token_urlsafe(32)
        write_atomically(self.token_file, token.encode() + b"\n", mode=0o600)
        return token


def list_records(home: Path | str) -> list[EndpointRecord]:
    """All endpoints of a stack by name; a folder without a whole record is passed over."""
    records = []
    for path in sorted((Path(home) / "endpoints").glob("*/endpoint.json")):
        try:
            records.append(EndpointRecord.model_validate_json(path.read_bytes()))
        except (ValidationError, FileNotFoundError):
            continue
    return records


def hash_token(token: str) -> str:
    """SHA-256 of a token, hex: what the serving process compares with.

    A plain hash is enough here, since the token is 256 random bits and cannot be guessed.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=2, sort_keys=True).encode() + b"\n")


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file so that readers see the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
