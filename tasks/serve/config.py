"""Settings of an endpoint."""

from __future__ import annotations

from pydantic import Field

from tasks.settings import Settings

#: An endpoint's name is a folder, a process name and a part of file names.
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"


class ServeConfig(Settings):
    """How a model is offered to clients."""

    endpoint: str = Field(
        default="",
        pattern=r"^$|" + NAME_PATTERN,
        description="Name of the endpoint: small letters, digits, dashes; empty takes the model's.",
    )
    alias: str = Field(
        default="champion",
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$",
        description="Alias of the registered model that the endpoint follows.",
    )
    workers: int = Field(default=1, ge=1, le=64, description="Worker processes that answer requests.")
    request_timeout_s: float = Field(
        default=20.0, gt=0, le=600, description="Longest time that one request may take, in seconds."
    )
    max_queue: int = Field(
        default=256, ge=1, le=10_000, description="Requests that may wait; further ones are refused."
    )
    max_instances: int = Field(
        default=512, ge=1, le=10_000, description="Most inputs that one request may hold."
    )
    max_body_mib: int = Field(default=32, ge=1, le=1024, description="Largest request body, in mebibytes.")
    ready_timeout_s: float = Field(
        default=60.0, gt=0, le=900, description="Longest wait for the endpoint to answer, in seconds."
    )
